// The steps of a new referral on one page: a change above refreshes what follows, and a chosen receiver fills the form.
import { fresh, whenShown } from './ready.js'

whenShown(root => {
  for (const form of fresh(root, '[data-steps]', 'Steps')) {
    const toggle = () => {
      const emergency = form.querySelector('[name=emergency]')?.checked
      form.classList.toggle('is-emergency', Boolean(emergency))
    }
    form.addEventListener('change', event => {
      if (event.target.name === 'emergency') toggle()
      const receiver = event.target.closest('[data-receiver]')
      if (receiver) {
        for (const [field, value] of Object.entries({ to_department: receiver.dataset.department || '' })) {
          const hidden = form.querySelector(`input[type=hidden][name=${field}]`)
          if (hidden) hidden.value = value
        }
      }
    })
    form.addEventListener('draft:restored', () => {
      toggle()
      window.htmx.trigger(form, 'refresh')
    })
    toggle()
  }
  for (const button of fresh(root, '[data-reveal]', 'Reveal')) {
    button.addEventListener('click', () => {
      const part = document.getElementById(button.dataset.reveal)
      part.hidden = !part.hidden
      button.setAttribute('aria-expanded', String(!part.hidden))
      if (!part.hidden) part.querySelector('textarea, input:not([type=hidden])')?.focus()
    })
  }
})
