// The review desk by keyboard: a key presses the button or link that names it (data-key), or puts the cursor somewhere.
const away = target => target.closest('input, textarea, select, [contenteditable], dialog')

document.addEventListener('keydown', event => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || away(event.target)) return
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key
  if (key === 'Enter' && event.target !== document.body && event.target.id !== 'main') return
  const wanted = [...document.querySelectorAll('[data-key], [data-key-focus]')]
    .find(one => one.dataset.key === key || one.dataset.keyFocus === key)
  if (!wanted || !wanted.offsetParent) return
  event.preventDefault()
  if (wanted.dataset.keyFocus) wanted.focus()
  else wanted.click()
})
