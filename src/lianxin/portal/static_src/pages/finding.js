// Find a person: arrow keys walk the hits, Enter in the box opens the first one, a scanned card opens at once.
import { fresh, whenShown } from './ready.js'

const hits = () => [...document.querySelectorAll('[data-hit]')]

function step (event, to) {
  const list = hits()
  if (!list.length) return
  event.preventDefault()
  const at = list.indexOf(document.activeElement)
  const next = to === 'down' ? at + 1 : at - 1
  if (next < 0) document.getElementById('q')?.focus()
  else list[Math.min(next, list.length - 1)].focus()
}

whenShown(root => {
  for (const form of fresh(root, '[data-people-find]', 'Find')) {
    const box = form.querySelector('input[type=search]')
    box.setSelectionRange(box.value.length, box.value.length)
    document.addEventListener('keydown', event => {
      if (!document.body.contains(form)) return
      const inside = event.target === box || event.target.matches?.('[data-hit]')
      if (!inside) return
      if (event.key === 'ArrowDown') step(event, 'down')
      if (event.key === 'ArrowUp') step(event, 'up')
    })
    form.addEventListener('submit', event => {
      const list = hits()
      // Only what is on the screen for exactly these characters may be opened by Enter.
      if (list.length === 1 && document.getElementById('hits')?.dataset.q === box.value.trim()) {
        event.preventDefault()
        window.location.assign(list[0].href)
      }
    })
    document.body.addEventListener('htmx:afterSwap', event => {
      if (event.detail.target.id === 'hits') event.detail.target.dataset.q = box.value.trim()
    })
  }
})
