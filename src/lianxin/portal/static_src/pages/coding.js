// Choosing a diagnosis: type characters, pinyin initials or a code; arrows and Enter choose; the hidden fields take code and name.
import { fresh, whenShown } from './ready.js'

whenShown(root => {
  for (const box of fresh(root, '[data-coding]', 'Coding')) {
    const search = box.querySelector('[data-coding-search]')
    const list = box.querySelector('[data-coding-list]')
    const code = box.querySelector('[data-coding-code]')
    const name = box.querySelector('[data-coding-name]')
    const options = () => [...list.querySelectorAll('[data-code]')]
    const close = () => { list.hidden = true; search.setAttribute('aria-expanded', 'false') }
    const mark = at => options().forEach((option, index) => {
      option.setAttribute('aria-selected', String(index === at))
      if (index === at) { search.setAttribute('aria-activedescendant', option.id); option.scrollIntoView({ block: 'nearest' }) }
    })
    const marked = () => options().findIndex(option => option.getAttribute('aria-selected') === 'true')
    const take = option => {
      code.value = option.dataset.code
      name.value = option.dataset.name
      search.value = `${option.dataset.name} ${option.dataset.code}`
      close()
      code.dispatchEvent(new Event('change', { bubbles: true }))
      box.dispatchEvent(new CustomEvent('chosen', { bubbles: true }))
    }
    list.addEventListener('htmx:afterSwap', () => {
      list.hidden = options().length === 0 && !list.textContent.trim()
      search.setAttribute('aria-expanded', String(!list.hidden))
      mark(0)
    })
    list.addEventListener('mousedown', event => {
      const option = event.target.closest('[data-code]')
      if (option) { event.preventDefault(); take(option) }
    })
    search.addEventListener('keydown', event => {
      if (event.key === 'ArrowDown') { event.preventDefault(); mark(Math.min(marked() + 1, options().length - 1)) }
      if (event.key === 'ArrowUp') { event.preventDefault(); mark(Math.max(marked() - 1, 0)) }
      if (event.key === 'Escape') close()
      if (event.key === 'Enter' && !list.hidden && options()[marked()]) { event.preventDefault(); take(options()[marked()]) }
    })
    search.addEventListener('input', () => { code.value = ''; name.value = '' })
    search.addEventListener('blur', () => setTimeout(close, 150))
  }
})
