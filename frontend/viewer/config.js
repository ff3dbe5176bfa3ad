// The viewer's configuration: our archive with the page's own session, Chinese first, nothing from other hosts.
window.PUBLIC_URL = '/viewer/'
window.browserImportFunction = (name) => Promise.reject(new Error(`not part of this viewer: ${name}`))
// the language of the page that was served, for the detector of the viewer's words
document.cookie = `i18next=${document.documentElement.lang.startsWith('en') ? 'en-US' : 'zh'}; path=/viewer; SameSite=Strict`
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
