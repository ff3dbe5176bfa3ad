// The pages about patients: find, record, referral, desks, flow. One import in app.js brings them all.
import './finding.js'
import './desk.js'
import './drafts.js'
import './coding.js'
import './steps.js'
import './registering.js'
import './trends.js'
import './flows.js'
