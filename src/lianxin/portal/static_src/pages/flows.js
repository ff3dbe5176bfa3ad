// The Sankey of referrals between institutions: a band opens the cases it counts.
import { fresh, whenShown } from './ready.js'
import { charts, colours, redraw } from './drawing.js'

function option (data, paint, narrow) {
  return {
    animation: false,
    aria: { enabled: false },
    tooltip: { trigger: 'item', renderMode: 'richText', confine: true },
    series: [{
      type: 'sankey',
      left: 8,
      right: narrow ? 90 : 150,
      top: 8,
      bottom: 8,
      nodeGap: 10,
      nodeWidth: 14,
      draggable: false,
      emphasis: { focus: 'adjacency' },
      lineStyle: { color: 'gradient', opacity: 0.35, curveness: 0.5 },
      label: { color: paint.text, fontSize: narrow ? 11 : 13, width: narrow ? 84 : 140, overflow: 'truncate', formatter: node => node.data.label },
      data: data.nodes.map(node => ({ name: node.name, label: node.label, itemStyle: { color: paint.tier[node.tier] || paint.accent } })),
      links: data.links
    }]
  }
}

whenShown(root => {
  for (const place of fresh(root, '[data-flow]', 'Flow')) {
    charts(place.dataset.charts).then(echarts => {
      const data = JSON.parse(document.getElementById(place.dataset.flow).textContent)
      const chart = echarts.init(place)
      redraw(place, chart, () => option(data, colours(place), place.clientWidth < 600))
      chart.on('click', event => {
        const url = event.dataType === 'edge' ? event.data.url : data.nodes.find(n => n.name === event.name)?.url
        if (url) window.location.assign(url)
      })
    })
  }
})
