// What desks add to the shell's keys: 1–3 act on the current case, one act's form is open at a time and takes the focus.
import { fresh, whenShown } from './ready.js'

document.addEventListener('keydown', event => {
  if (event.ctrlKey || event.metaKey || event.altKey || !/^[1-9]$/.test(event.key)) return
  if (event.target.closest('input, textarea, select, [contenteditable]')) return
  const button = document.querySelector(`[data-line].is-current [data-desk-key="${event.key}"]`)
  if (!button) return
  event.preventDefault()
  button.click()
})

document.addEventListener('focusin', event => {
  const line = event.target.closest?.('[data-line]')
  if (!line) return
  document.querySelectorAll('[data-line].is-current').forEach(other => other.classList.toggle('is-current', other === line))
  line.classList.add('is-current')
})

whenShown(root => {
  for (const drawer of fresh(root, 'details[data-actform]', 'Act')) {
    drawer.addEventListener('toggle', () => {
      if (!drawer.open) return
      drawer.closest('[data-acts]')?.querySelectorAll('details[data-actform][open]').forEach(other => {
        if (other !== drawer) other.open = false
      })
      drawer.querySelector('input:not([type=hidden]), textarea, select')?.focus()
    })
  }
  // A form that a desk loads into a row shows itself and closes the others.
  for (const form of fresh(root, '.act-inline', 'Inline')) {
    document.querySelectorAll('.act-inline').forEach(other => { if (other !== form) other.remove() })
    form.querySelector('input:not([type=hidden]), textarea, select, button')?.focus()
    form.scrollIntoView({ block: 'nearest' })
  }
})
