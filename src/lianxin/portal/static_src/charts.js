import * as echarts from 'echarts/core'
import { LineChart, BarChart, SankeyChart, ScatterChart } from 'echarts/charts'
import { GridComponent, TooltipComponent, MarkAreaComponent, MarkLineComponent, LegendComponent, AriaComponent } from 'echarts/components'
import { SVGRenderer } from 'echarts/renderers'

echarts.use([LineChart, BarChart, SankeyChart, ScatterChart, GridComponent, TooltipComponent, MarkAreaComponent, MarkLineComponent, LegendComponent, AriaComponent, SVGRenderer])
window.echarts = echarts
