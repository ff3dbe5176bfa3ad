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
  // A form that is brought into the page shows itself and takes the focus; others of its kind step back.
  for (const form of fresh(root, '.act-open', 'Open')) {
    document.querySelectorAll('.act-open').forEach(other => { if (other !== form) other.remove() })
    form.querySelector('input:not([type=hidden]), textarea, select, button')?.focus({ preventScroll: true })
    form.scrollIntoView({ block: 'nearest' })
    form.querySelector('.act-close')?.addEventListener('click', event => {
      event.preventDefault()
      form.remove()
    })
  }
})
