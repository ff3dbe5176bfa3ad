// Runs a set-up function for the whole page and again for each part htmx brings in.
export function whenShown (setUp) {
  const run = root => setUp(root)
  if (document.readyState === 'loading') document.addEventListener('DOMContentLoaded', () => run(document))
  else run(document)
  document.addEventListener('htmx:load', event => { if (event.detail.elt !== document.body) run(event.detail.elt) })
}

// All elements below root (root included) that match, each handed out once per purpose.
export function fresh (root, selector, purpose) {
  const found = [...root.querySelectorAll(selector)]
  if (root.matches && root.matches(selector)) found.unshift(root)
  return found.filter(element => {
    const key = 'ready' + purpose
    if (element.dataset[key]) return false
    element.dataset[key] = '1'
    return true
  })
}

export const english = () => document.documentElement.lang.startsWith('en')
export const say = (zh, en) => english() ? en : zh
