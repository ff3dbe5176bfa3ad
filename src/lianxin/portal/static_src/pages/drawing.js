// Loading ECharts only when a page draws, painting with the colours of the theme, and following the window's width.
let loading

export function charts (src) {
  if (window.echarts) return Promise.resolve(window.echarts)
  loading ||= new Promise((resolve, reject) => {
    const script = document.createElement('script')
    script.src = src
    script.onload = () => resolve(window.echarts)
    script.onerror = () => reject(new Error('charts did not load'))
    document.head.append(script)
  })
  return loading
}

export function colours (place) {
  const style = getComputedStyle(place)
  const read = (name, otherwise) => style.getPropertyValue(name).trim() || otherwise
  return {
    accent: read('--bs-primary', '#0a6b66'),
    second: read('--bs-info', '#1f6f9c'),
    text: read('--bs-secondary-color', '#56635f'),
    line: read('--bs-border-color', '#dfe5e3'),
    band: 'rgba(47, 125, 79, 0.12)',
    tier: {
      village: read('--tier-village', '#7a8f2a'),
      township: read('--tier-township', '#2f7d4f'),
      county: read('--tier-county', '#1f6f9c'),
      city: read('--tier-city', '#6b4fa0'),
      province: read('--tier-province', '#a03f6b')
    }
  }
}

export function redraw (place, chart, option) {
  chart.setOption(option())
  new ResizeObserver(() => chart.resize()).observe(place)
  new MutationObserver(() => chart.setOption(option(), true)).observe(document.documentElement, { attributes: true, attributeFilter: ['data-bs-theme'] })
}
