import 'bootstrap'
import htmx from 'htmx.org'
import Alpine from '@alpinejs/csp'

// Content-Security-Policy: no inline style, no eval.
htmx.config.includeIndicatorStyles = false
htmx.config.allowEval = false
window.htmx = htmx
window.Alpine = Alpine
Alpine.start()
