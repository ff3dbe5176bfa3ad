/* Charts, loaded only by pages that draw one ({% block scripts %}<script src="{% static "dist/charts.js" %}" defer>).
   <div class="chart" data-chart="trend|sankey|map|bars" data-from="ID of a json_script" role="img" aria-label="summary">
   Every chart has a table behind it in the page; marks that carry a `url` open the records they count. */
import * as echarts from "echarts/core";
import { BarChart, GraphChart, LineChart, SankeyChart, ScatterChart } from "echarts/charts";
import { DataZoomComponent, GridComponent, LegendComponent, MarkAreaComponent, MarkLineComponent, TooltipComponent } from "echarts/components";
import { LabelLayout } from "echarts/features";
import { CanvasRenderer } from "echarts/renderers";

echarts.use([
  BarChart,
  GraphChart,
  LineChart,
  SankeyChart,
  ScatterChart,
  DataZoomComponent,
  GridComponent,
  LegendComponent,
  MarkAreaComponent,
  MarkLineComponent,
  TooltipComponent,
  LabelLayout,
  CanvasRenderer,
]);

const token = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const tier = (code) => token(`--lx-${code}`) || token("--lx-accent");

function frame() {
  const ink = token("--lx-ink-2");
  return {
    textStyle: { fontFamily: getComputedStyle(document.body).fontFamily, color: ink },
    animation: !window.matchMedia("(prefers-reduced-motion: reduce)").matches,
    animationDuration: 300,
    tooltip: {
      renderMode: "richText",
      backgroundColor: token("--lx-surface"),
      borderColor: token("--lx-line-strong"),
      textStyle: { color: token("--lx-ink"), fontSize: 13 },
      confine: true,
    },
  };
}

function axis(extra) {
  return {
    axisLine: { lineStyle: { color: token("--lx-line-strong") } },
    axisTick: { show: false },
    axisLabel: { color: token("--lx-ink-2") },
    splitLine: { lineStyle: { color: token("--lx-line") } },
    ...extra,
  };
}

const kinds = {
  /* {unit, low, high, series: [{name, points: [{t, v, url}]}]}; low/high draw the normal band. */
  trend(data) {
    const band = data.low != null || data.high != null;
    const hues = ["--lx-accent", "--lx-county", "--lx-soon", "--lx-province"].map(token);
    return {
      grid: { left: 8, right: 16, top: 28, bottom: 8, containLabel: true },
      legend: data.series.length > 1 ? { top: 0, textStyle: { color: token("--lx-ink-2") } } : undefined,
      tooltip: { ...frame().tooltip, trigger: "axis", valueFormatter: (v) => `${v} ${data.unit || ""}` },
      xAxis: axis({ type: "time", splitLine: { show: false } }),
      yAxis: axis({ type: "value", scale: true, name: data.unit, nameTextStyle: { align: "left" }, axisLine: { show: false } }),
      series: data.series.map((line, i) => ({
        type: "line",
        name: line.name,
        data: line.points.map((p) => ({ value: [p.t, p.v], url: p.url })),
        symbol: "circle",
        symbolSize: 7,
        color: hues[i % hues.length],
        lineStyle: { width: 2 },
        markArea:
          band && i === 0
            ? {
                silent: true,
                itemStyle: { color: token("--lx-calm-soft"), opacity: 0.7 },
                data: [[{ yAxis: data.low ?? "min" }, { yAxis: data.high ?? "max" }]],
              }
            : undefined,
      })),
    };
  },

  /* {nodes: [{name, label, tier, url}], links: [{source, target, value, url}]} */
  sankey(data, box) {
    const sends = new Set(data.links.map((l) => l.source));
    const rows = Math.max(sends.size, data.nodes.length - sends.size);
    box.style.height = `${Math.max(14, rows * 1.75 + 1.5)}rem`;
    const side = box.clientWidth < 500 ? 98 : 132;
    const labels = Object.fromEntries(data.nodes.map((n) => [n.name, n.label || n.name]));
    return {
      series: [
        {
          type: "sankey",
          animation: false, // it would uncover the bands from the left and the labels last
          left: side,
          right: side,
          top: 12,
          bottom: 12,
          nodeGap: 18,
          nodeWidth: 14,
          emphasis: { focus: "adjacency" },
          label: { color: token("--lx-ink"), fontSize: side < 100 ? 12 : 13, width: side - 12, overflow: "truncate", formatter: (p) => labels[p.name] },
          lineStyle: { color: "gradient", opacity: 0.32, curveness: 0.5 },
          data: data.nodes.map((n) => ({
            name: n.name,
            url: n.url,
            itemStyle: { color: tier(n.tier), borderWidth: 0 },
            label: { position: sends.has(n.name) ? "left" : "right" },
          })),
          links: data.links,
          tooltip: {
            formatter: (p) =>
              p.dataType === "edge"
                ? `${labels[p.data.source]} → ${labels[p.data.target]}  ${p.data.value}`
                : `${labels[p.name]}  ${p.value}`,
          },
        },
      ],
    };
  },

  /* {nodes: [{id, name, lon, lat, tier, lead, url}], links: [[id, id]]}: members by position, no tiles from outside. */
  map(data, box) {
    const size = { village: 7, township: 14, county: 22, city: 28, province: 30 };
    const lats = data.nodes.map((n) => n.lat);
    const mid = (Math.min(...lats) + Math.max(...lats)) / 2 || 0;
    const lead = data.nodes.find((n) => n.lead);
    const lons = data.nodes.map((n) => n.lon);
    const west = Math.min(...lons);
    const inner = west + (Math.max(...lons) - west) / 4;
    const narrow = box.clientWidth < 500;
    // names lean away from the crowded middle, except at the western edge, where they would be cut off
    const place = (n) => {
      if (narrow) return n.lead ? "top" : "right";
      return lead && n.lon <= lead.lon && n.lon > inner ? "left" : "right";
    };
    const squeeze = 1 / Math.cos((mid * Math.PI) / 180);
    return {
      series: [
        {
          type: "graph",
          layout: "none",
          roam: true,
          left: 40,
          right: 90,
          top: 30,
          bottom: 30,
          preserveAspect: "contain",
          scaleLimit: { min: 0.6, max: 12 },
          data: data.nodes.map((n) => ({
            id: n.id,
            name: n.name,
            x: n.lon,
            y: -n.lat * squeeze,
            url: n.url,
            symbolSize: n.lead ? 32 : size[n.tier] || 12,
            itemStyle: {
              color: tier(n.tier),
              borderColor: token("--lx-surface"),
              borderWidth: n.tier === "village" ? 1 : 2,
            },
            label: {
              show: n.tier !== "village",
              position: place(n),
              formatter: n.name,
              color: token("--lx-ink"),
              fontSize: n.lead ? 14 : 12,
              fontWeight: n.lead ? "bold" : "normal",
              textBorderColor: token("--lx-surface"),
              textBorderWidth: 3,
            },
          })),
          links: data.links.map(([source, target]) => ({ source, target })),
          lineStyle: { color: token("--lx-line-strong"), width: 1.2, curveness: 0.08 },
          labelLayout: (p) => ({ hideOverlap: true, moveOverlap: data.nodes[p.dataIndex]?.lead ? undefined : "shiftY" }),
          emphasis: { focus: "adjacency", lineStyle: { color: token("--lx-accent"), width: 2 } },
          tooltip: { formatter: (p) => p.name },
        },
      ],
    };
  },

  /* {unit, bars: [{name, value, url, tier}]} */
  bars(data) {
    return {
      grid: { left: 8, right: 40, top: 8, bottom: 8, containLabel: true },
      xAxis: axis({ type: "value", minInterval: 1 }),
      yAxis: axis({ type: "category", inverse: true, data: data.bars.map((b) => b.name), splitLine: { show: false } }),
      series: [
        {
          type: "bar",
          barMaxWidth: 18,
          label: { show: true, position: "right", color: token("--lx-ink") },
          data: data.bars.map((b) => ({
            value: b.value,
            url: b.url,
            itemStyle: { color: b.tier ? tier(b.tier) : token("--lx-accent"), borderRadius: 4 },
          })),
        },
      ],
    };
  },
};

function draw(box) {
  const source = document.getElementById(box.dataset.from);
  const kind = kinds[box.dataset.chart];
  if (!source || !kind) return;
  const data = JSON.parse(source.textContent);
  const old = echarts.getInstanceByDom(box);
  if (old) old.dispose();
  const option = kind(data, box);
  const chart = echarts.init(box);
  chart.setOption({ ...frame(), ...option });
  chart.on("click", (event) => {
    const url = event.data && event.data.url;
    if (url) window.location.assign(url);
  });
}

function drawAll(root) {
  root.querySelectorAll("[data-chart]").forEach(draw);
}

drawAll(document);
document.addEventListener("htmx:afterSwap", (event) => drawAll(event.target));
window.addEventListener("resize", () => {
  document.querySelectorAll("[data-chart]").forEach((box) => {
    const chart = echarts.getInstanceByDom(box);
    if (chart) chart.resize();
  });
});
new MutationObserver(() => drawAll(document)).observe(document.documentElement, { attributeFilter: ["data-bs-theme"] });
