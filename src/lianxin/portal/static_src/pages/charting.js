// Charts come only to pages (or parts) that draw: [data-charts-src] names the script; a drawer that opens is measured again.
import { fresh, whenShown } from './ready.js'

let asked = false

whenShown(root => {
  const wanted = fresh(root, '[data-charts-src]', 'Charts')[0]
  if (wanted && !asked && !window.echarts) {
    asked = true
    const script = document.createElement('script')
    script.src = wanted.dataset.chartsSrc
    document.head.append(script)
  }
  for (const drawer of fresh(root, 'details', 'Drawer')) {
    if (drawer.querySelector('[data-chart]')) drawer.addEventListener('toggle', () => window.dispatchEvent(new Event('resize')))
  }
})
