// The viewer's configuration: our archive with the page's own session, Chinese first, nothing from other hosts.
window.PUBLIC_URL = '/viewer/'
window.browserImportFunction = (name) => Promise.reject(new Error(`not part of this viewer: ${name}`))
// the language of the page that was served, for the detector of the viewer's words
document.cookie = `i18next=${document.documentElement.lang.startsWith('en') ? 'en-US' : 'zh'}; path=/viewer; SameSite=Strict`

// What the page around the viewer may ask: which image is shown, what has been measured. Answered to our own pages only.
const number = (value) => String(Math.round(value * 100) / 100)
function image(services) {
  const { viewportGridService, cornerstoneViewportService, displaySetService } = services
  const grid = viewportGridService.getState()
  const viewport = cornerstoneViewportService.getCornerstoneViewport(grid.activeViewportId)
  const id = viewport?.getCurrentImageId?.() ?? ''
  const found = /instances\/([0-9.]+)(?:\/frames\/(\d+))?/.exec(id)
  if (found) {
    const shown = grid.viewports.get(grid.activeViewportId)?.displaySetInstanceUIDs?.[0]
    const set = shown && displaySetService.getDisplaySetByUID(shown)
    const index = (viewport.getCurrentImageIdIndex?.() ?? 0) + 1
    return { sop: found[1], frame: Number(found[2] ?? 1), note: `S${set?.SeriesNumber ?? '?'} I${index}` }
  }
  return {}
}
function measurements(services) {
  const lines = []
  for (const one of services.measurementService.getMeasurements()) {
    const name = one.label || one.toolName
    for (const data of Object.values(one.data ?? {})) {
      if (data.length !== undefined) lines.push(`${name} ${number(data.length)} ${data.unit ?? 'mm'}`)
      if (data.width !== undefined) lines.push(`${name} × ${number(data.width)} ${data.unit ?? 'mm'}`)
      if (data.angle !== undefined && data.angle !== null) lines.push(`${name} ${number(data.angle)} °`)
      if (data.area !== undefined) lines.push(`${name} ${number(data.area)} ${data.areaUnit ?? 'mm²'}`)
      if (data.mean !== undefined) lines.push(`${name}均值 ${number(data.mean)} ${data.modalityUnit ?? ''}`.trim())
    }
  }
  return { lines }
}
const answers = { image, measurements }
window.addEventListener('message', (event) => {
  if (event.origin !== location.origin || event.source !== window.parent || typeof event.data?.lianxin !== 'string') return
  const answer = answers[event.data.ask]
  const services = window.services
  event.source.postMessage({ lianxin: event.data.lianxin, ...(answer && services ? answer(services) : {}) }, location.origin)
})

window.config = {
  routerBasename: '/viewer',
  extensions: [],
  modes: [],
  customizationService: {},
  showStudyList: false,
  maxNumberOfWebWorkers: Math.min(3, navigator.hardwareConcurrency || 2),
  showWarningMessageForCrossOrigin: false,
  showCPUFallbackMessage: false,
  showLoadingIndicator: true,
  showErrorDetails: 'dev',
  strictZSpacingForVolumeViewport: true,
  experimentalStudyBrowserSort: false,
  investigationalUseDialog: { option: 'never' },
  maxNumRequests: { interaction: 20, thumbnail: 4, prefetch: 8 },
  defaultDataSourceName: 'lianxin',
  dataSources: [
    {
      namespace: '@ohif/extension-default.dataSourcesModule.dicomweb',
      sourceName: 'lianxin',
      configuration: {
        friendlyName: '联心影像归档',
        name: 'lianxin',
        qidoRoot: '/dicomweb',
        wadoRoot: '/dicomweb',
        wadoUriRoot: '/dicomweb',
        qidoSupportsIncludeField: false,
        imageRendering: 'wadors',
        thumbnailRendering: 'wadors',
        enableStudyLazyLoad: true,
        supportsFuzzyMatching: false,
        supportsWildcard: true,
        omitQuotationForMultipartRequest: true,
        bulkDataURI: { enabled: true },
        singlepart: 'pdf,video',
      },
    },
  ],
}
