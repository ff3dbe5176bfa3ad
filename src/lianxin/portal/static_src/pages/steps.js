// The steps of a new referral on one page: a change above asks the catalogue again; only what it changes is replaced.
import { fresh, whenShown } from './ready.js'

whenShown(root => {
  for (const form of fresh(root, '[data-steps]', 'Steps')) {
    const toggle = () => form.classList.toggle('is-emergency', Boolean(form.querySelector('[name=emergency]')?.checked))
    const ask = part => window.htmx.ajax('POST', form.dataset.ask, {
      source: form,
      target: '#answer-box',
      swap: 'innerHTML',
      values: { _part: part }
    })
    let timer
    let waiting = ''
    form.addEventListener('change', event => {
      const asked = event.target.closest('[data-asks]')
      if (asked) {
        clearTimeout(timer)
        // A new diagnosis asks for the most; a quick change after it must not make it ask for less.
        if (waiting !== 'diagnosis') waiting = asked.dataset.asks
        timer = setTimeout(() => { ask(waiting); waiting = '' }, 60)
      }
      if (event.target.name === 'emergency') toggle()
      const receiver = event.target.closest('[data-receiver]')
      if (receiver) form.querySelector('input[type=hidden][name=to_department]').value = receiver.dataset.department
    })
    form.addEventListener('lx:restored', () => {
      toggle()
      if (form.querySelector('[name=diagnosis_code]').value) ask('diagnosis')
    })
    toggle()
  }
})

// A button that opens a part further down (a reason, a form) and puts the cursor there.
document.addEventListener('click', event => {
  const button = event.target.closest?.('[data-reveal]')
  if (!button) return
  const part = document.getElementById(button.dataset.reveal)
  part.hidden = !part.hidden
  button.setAttribute('aria-expanded', String(!part.hidden))
  if (!part.hidden) part.querySelector('textarea, input:not([type=hidden])')?.focus()
})
