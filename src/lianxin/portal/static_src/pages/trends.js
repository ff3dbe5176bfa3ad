// Result trends: a line with its normal band, drawn from the JSON beside the table it comes from.
import { fresh, whenShown } from './ready.js'
import { charts, colours, redraw } from './drawing.js'

function option (data, paint) {
  const series = data.series.map((line, index) => ({
    name: line.name,
    type: 'line',
    data: line.points,
    symbolSize: 7,
    connectNulls: true,
    lineStyle: { width: 2, color: index ? paint.second : paint.accent },
    itemStyle: { color: index ? paint.second : paint.accent },
    markArea: line.low !== null || line.high !== null
      ? {
          silent: true,
          itemStyle: { color: paint.band },
          data: [[{ yAxis: line.low ?? 'min' }, { yAxis: line.high ?? 'max' }]]
        }
      : undefined
  }))
  const values = data.series.flatMap(line => line.points.map(p => p[1]).concat([line.low, line.high])).filter(v => v !== null)
  const low = Math.min(...values)
  const high = Math.max(...values)
  const pad = (high - low || high || 1) * 0.15
  return {
    animation: false,
    aria: { enabled: false },
    grid: { left: 44, right: 16, top: data.series.length > 1 ? 34 : 16, bottom: 28 },
    legend: data.series.length > 1 ? { top: 0, right: 0, textStyle: { color: paint.text } } : undefined,
    tooltip: { trigger: 'axis', renderMode: 'richText', confine: true },
    xAxis: { type: 'time', axisLabel: { color: paint.text, hideOverlap: true, formatter: '{yyyy}-{MM}-{dd}' }, axisLine: { lineStyle: { color: paint.line } } },
    yAxis: {
      type: 'value',
      min: Number((Math.max(low - pad, low >= 0 ? 0 : -Infinity)).toPrecision(2)),
      max: Number((high + pad).toPrecision(3)),
      name: data.unit,
      nameTextStyle: { color: paint.text },
      axisLabel: { color: paint.text },
      splitLine: { lineStyle: { color: paint.line } }
    },
    series
  }
}

whenShown(root => {
  for (const place of fresh(root, '[data-trend]', 'Trend')) {
    const draw = async () => {
      const echarts = await charts(place.dataset.charts)
      const data = JSON.parse(document.getElementById(place.dataset.trend).textContent)
      const chart = echarts.init(place, null, { renderer: place.dataset.renderer || undefined, height: place.clientHeight || 220 })
      redraw(place, chart, () => option(data, colours(place)))
    }
    const drawer = place.closest('details')
    if (drawer && !drawer.open) drawer.addEventListener('toggle', draw, { once: true })
    else draw()
  }
})
