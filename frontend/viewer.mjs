// Builds the image viewer: OHIF's own build (npm package @ohif/app) made small and ours, into src/lianxin/regional/imaging/dist/viewer.
// The package is fetched as one archive and held against the hash in viewer/lock.json; it is not a dependency in package.json, for its
// 39 dependencies are only those of its build and would be half a gigabyte. Of its 200 MB we keep what the reading of images needs
// (no onnx runtime, no slide microscope, no service worker), minified, with gzip and brotli beside each file. index.html and the
// configuration are ours, without a line of inline script. Every change of the foreign text must be found exactly as often as said.
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { brotliCompressSync, constants, gunzipSync, gzipSync } from 'node:zlib'
import * as esbuild from 'esbuild'

const root = resolve(dirname(fileURLToPath(import.meta.url)), '..')
const own = join(root, 'frontend/viewer')
const target = join(root, 'src/lianxin/regional/imaging/dist/viewer')
const fresh = `${target}.new`
const cache = join(root, 'node_modules/.cache/lianxin')
const lock = JSON.parse(readFileSync(join(own, 'lock.json'), 'utf8'))

const integrity = (bytes) => `sha512-${createHash('sha512').update(bytes).digest('base64')}`

// The archive of the package: from the cache, else from the registry npm is set up for.
function archive() {
  const kept = join(cache, `viewer-${lock.version}.tgz`)
  if (existsSync(kept) && integrity(readFileSync(kept)) === lock.integrity) return readFileSync(kept)
  const scratch = mkdtempSync(join(tmpdir(), 'viewer-'))
  try {
    const packed = spawnSync('npm', ['pack', `${lock.name}@${lock.version}`, '--silent', '--pack-destination', scratch], { encoding: 'utf8', cwd: root })
    const [name] = readdirSync(scratch)
    if (packed.status !== 0 || !name) throw new Error(`${lock.name}@${lock.version} could not be fetched: ${packed.stderr || packed.error}`)
    const bytes = readFileSync(join(scratch, name))
    if (integrity(bytes) !== lock.integrity) throw new Error(`${lock.name}@${lock.version} is not what viewer/lock.json says: ${integrity(bytes)}`)
    mkdirSync(cache, { recursive: true })
    writeFileSync(kept, bytes)
    return bytes
  } finally {
    rmSync(scratch, { recursive: true, force: true })
  }
}

// The files below dist/ of a tar archive (ustar: 512-byte headers, size in octal, long names by prefix).
function* files(tar) {
  for (let at = 0; at + 512 <= tar.length && tar[at]; ) {
    const text = (from, length) => tar.toString('utf8', at + from, at + from + length).replace(/\0.*$/s, '')
    const size = parseInt(text(124, 12), 8)
    const name = [text(345, 155), text(0, 100)].filter(Boolean).join('/')
    if ((tar[at + 156] === 48 || tar[at + 156] === 0) && name.startsWith('package/dist/')) yield [name.slice(13), tar.subarray(at + 512, at + 512 + size)]
    at += 512 + Math.ceil(size / 512) * 512
  }
}

// Left out: the onnx runtime, the slide microscope, other people's configurations, sign-in of their own, service worker, pictures for
// home screens, polyfills of old browsers; and the parts no mode of ours loads (microscope, PET-CT, 4D, pleura lines, test, mesh).
const OUT = /^(ort|customizations|dicom-microscopy-viewer)\/|^assets\/(?!images\/)|^(app-config|google|init-service-worker|sw|oidc-client|es6-shim|polyfill)\b|\.(html|json|svg|map)$|^_/
const PARTS_OUT = ['5731', '8832', '5189', '9290', '4683', '7499', '8492', '1180', '2779', '8423', '9437', '4556', '1483', '5696', '1602']
const left = (name) => OUT.test(name) || PARTS_OUT.includes(name.split('.')[0])

let base = 0
const exactly = (text, find, put, times, name) => {
  const pieces = text.split(find)
  if (pieces.length !== times + 1) throw new Error(`${name}: “${find}” stands ${pieces.length - 1} times, not ${times}: look at the new version`)
  return pieces.join(put)
}
const MODES = ['longitudinal', 'segmentation', 'tmtv', 'microscopy', 'preclinical-4d', 'ultrasound-pleura-bline']
function ours(name, text) {
  if (text.includes('__webpack_require__.p = "/";')) {
    base += 1
    text = exactly(text, '__webpack_require__.p = "/";', '__webpack_require__.p = "/viewer/";', 1, name)
  }
  if (name.startsWith('app.bundle')) {
    for (const mode of MODES) text = exactly(text, `pluginImports_modes.push("@ohif/mode-${mode}");`, '', 1, name)
    text = exactly(text, 'pluginImports_extensions.push("@ohif/extension-ultrasound-pleura-bline");', '', 1, name)
  }
  return text
}

rmSync(fresh, { recursive: true, force: true })
mkdirSync(join(fresh, 'assets/images'), { recursive: true })
const brotli = { params: { [constants.BROTLI_PARAM_QUALITY]: 8 } }
function write(name, bytes) {
  writeFileSync(join(fresh, name), bytes)
  if (!/\.(js|css|html|wasm)$/.test(name)) return
  writeFileSync(join(fresh, `${name}.gz`), gzipSync(bytes, { level: 9 }))
  writeFileSync(join(fresh, `${name}.br`), brotliCompressSync(bytes, brotli))
}

const minify = { minify: true, target: ['chrome109', 'firefox115', 'safari16'], legalComments: 'none', charset: 'utf8', logLevel: 'error' }
const silent = { ...minify, logLevel: 'silent' } // what others' code is warned of is theirs to mend
const names = []
for (const [name, bytes] of files(gunzipSync(archive()))) {
  if (left(name)) continue
  const kind = name.split('.').pop()
  names.push(name)
  if (kind === 'js') write(name, (await esbuild.transform(ours(name, bytes.toString('utf8')), silent)).code)
  else if (kind === 'css') write(name, (await esbuild.transform(bytes.toString('utf8').replaceAll('url(/', 'url(/viewer/'), { ...silent, loader: 'css' })).code)
  else write(name, bytes)
}
if (base < 1) throw new Error('the public path was not found: look at the new version')

const hashed = (stem, bytes, kind) => `${stem}.${createHash('sha256').update(bytes).digest('hex').slice(0, 16)}.${kind}`
const config = (await esbuild.build({ entryPoints: [join(own, 'config.js')], bundle: true, write: false, format: 'iife', ...minify })).outputFiles[0].contents
const style = (await esbuild.transform(readFileSync(join(own, 'viewer.css'), 'utf8'), { ...minify, loader: 'css' })).code
const app = names.find((name) => /^app\.bundle\..*\.js$/.test(name))
const appStyle = names.find((name) => /^app\.bundle\.(.*\.)?css$/.test(name))
const early = names.filter((name) => /^(1673|6938|6489|6495|8478|89|6749)\.bundle\..*\.js$/.test(name))
if (!app || !appStyle || early.length !== 7) throw new Error('the parts of the first page were not found: look at the new version')
const fill = { config: hashed('config', config, 'js'), style: hashed('viewer', style, 'css'), app, appStyle }
write(fill.config, config)
write(fill.style, style)
const preload = early.map((name) => `<link rel="preload" as="script" href="/viewer/${name}">`).join('\n  ')
const page = readFileSync(join(own, 'index.html'), 'utf8').replace('<!--preload-->', preload).replace(/\{(\w+)\}/g, (_, name) => `/viewer/${fill[name]}`)
writeFileSync(join(fresh, 'index.html'), page)

const old = `${target}.old`
rmSync(old, { recursive: true, force: true })
mkdirSync(dirname(target), { recursive: true })
if (existsSync(target)) renameSync(target, old)
renameSync(fresh, target)
rmSync(old, { recursive: true, force: true })
