// The pages about patients: find, record, referral, desks, flow. One import in app.js brings them all.
import './finding.js'
import './desk.js'
import './coding.js'
import './steps.js'
import './registering.js'
import './charting.js'
import './reviewing.js'
