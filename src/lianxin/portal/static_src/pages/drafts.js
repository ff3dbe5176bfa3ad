// A long form keeps itself on this device until it is sent: [data-draft="name"]. Passwords and hidden fields are never kept.
import { fresh, say, whenShown } from './ready.js'

const DAY = 24 * 3600 * 1000

function fields (form) {
  return [...form.elements].filter(e => e.name && !['hidden', 'password', 'file', 'submit', 'button'].includes(e.type))
}

function read (form) {
  const kept = {}
  for (const element of fields(form)) {
    if (element.type === 'checkbox' || element.type === 'radio') {
      if (element.checked) (kept[element.name] ||= []).push(element.value)
    } else if (element.value) kept[element.name] = element.value
  }
  return kept
}

function write (form, kept) {
  for (const element of fields(form)) {
    const value = kept[element.name]
    if (value === undefined) continue
    if (element.type === 'checkbox' || element.type === 'radio') element.checked = value.includes(element.value)
    else if (!element.value || element.dataset.prefilled !== undefined) element.value = value
  }
}

whenShown(root => {
  for (const form of fresh(root, 'form[data-draft]', 'Draft')) {
    const key = 'lianxin:draft:' + form.dataset.draft
    const note = form.querySelector('[data-draft-note]')
    const stored = localStorage.getItem(key)
    if (stored && !form.querySelector('.form-errors')) {
      const draft = JSON.parse(stored)
      if (Date.now() - draft.at < 3 * DAY) {
        write(form, draft.fields)
        form.dispatchEvent(new CustomEvent('draft:restored', { bubbles: true }))
        if (note) note.textContent = say('已恢复上次未提交的内容。', 'What you had typed before is back.')
      } else localStorage.removeItem(key)
    }
    let timer
    form.addEventListener('input', () => {
      clearTimeout(timer)
      timer = setTimeout(() => {
        localStorage.setItem(key, JSON.stringify({ at: Date.now(), fields: read(form) }))
        if (note) note.textContent = say('草稿已存在本机。', 'Draft kept on this device.')
      }, 500)
    })
    form.addEventListener('submit', () => sessionStorage.setItem(key + ':sent', '1'))
  }
  // The page that follows a successful send carries the draft's name; only then is the draft thrown away.
  for (const done of fresh(root, '[data-draft-sent]', 'Sent')) localStorage.removeItem('lianxin:draft:' + done.dataset.draftSent)
})
