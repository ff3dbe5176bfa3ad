// A desk by keyboard: j and k walk the cases, Enter opens, the first letters shown on the buttons act.
import { fresh, whenShown } from './ready.js'

const typing = target => target.closest('input, textarea, select, [contenteditable]')

whenShown(root => {
  for (const desk of fresh(root, '[data-desk]', 'Desk')) {
    const rows = () => [...desk.querySelectorAll('[data-desk-row]')]
    const current = () => rows().findIndex(row => row.classList.contains('is-current'))
    const choose = at => {
      const all = rows()
      if (!all.length) return
      const next = Math.max(0, Math.min(at, all.length - 1))
      all.forEach((row, index) => row.classList.toggle('is-current', index === next))
      const link = all[next].querySelector('[data-desk-open]')
      link?.focus({ preventScroll: true })
      all[next].scrollIntoView({ block: 'nearest' })
    }
    document.addEventListener('keydown', event => {
      if (!document.body.contains(desk) || event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return
      if (event.key === 'j') { event.preventDefault(); choose(current() + 1) }
      if (event.key === 'k') { event.preventDefault(); choose(current() - 1) }
      if (event.key === 'o' && current() >= 0) rows()[current()].querySelector('[data-desk-open]')?.click()
      const row = rows()[current()]
      const quick = row?.querySelector(`[data-desk-key="${CSS.escape(event.key)}"]`)
      if (quick) { event.preventDefault(); quick.click() }
    })
    desk.addEventListener('focusin', event => {
      const at = rows().findIndex(row => row.contains(event.target))
      if (at >= 0) rows().forEach((row, index) => row.classList.toggle('is-current', index === at))
    })
  }
  // A quick act opens its form in the row; the first field takes the focus.
  for (const drawer of fresh(root, 'details[data-act]', 'Act')) {
    drawer.addEventListener('toggle', () => {
      if (!drawer.open) return
      drawer.closest('[data-acts]')?.querySelectorAll('details[data-act][open]').forEach(other => {
        if (other !== drawer) other.open = false
      })
      drawer.querySelector('input:not([type=hidden]), textarea, select')?.focus()
    })
  }
  for (const form of fresh(root, 'form[data-once]', 'Once')) {
    form.addEventListener('submit', () => {
      // The key makes a second press harmless; the disabled button says that the first one was heard.
      setTimeout(() => form.querySelectorAll('button[type=submit], button:not([type])').forEach(b => { b.disabled = true }), 0)
      setTimeout(() => form.querySelectorAll('button').forEach(b => { b.disabled = false }), 8000)
    })
  }
})
