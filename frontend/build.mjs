// Builds the pages' assets: every entry of src/lianxin/portal/static_src that exists goes to src/lianxin/portal/static/dist.
//   app.scss or app.css → app.css     app.js → app.js     charts.js → charts.js (loaded only by pages that draw)
//   phone.scss → phone.css            phone.js → phone.js (a resident's pages: nothing else is loaded there)
// Of the icon font only the icons whose names stand in the sources are kept (fontTools, which comes with WeasyPrint).
// Fonts and pictures are copied beside them. File names get their hashes later, from Django's collectstatic.
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import * as esbuild from 'esbuild'
import * as sass from 'sass'

const root = resolve(dirname(fileURLToPath(import.meta.url)), '..')
const source = join(root, 'src/lianxin/portal/static_src')
const target = join(root, 'src/lianxin/portal/static/dist')
const fresh = `${target}.new`
const modules = join(root, 'node_modules')

// Every quoted word or class name of the sources that is the name of an icon; a word too many costs a hundred bytes.
const everyIcon = JSON.parse(readFileSync(join(modules, 'bootstrap-icons/font/bootstrap-icons.json'), 'utf8'))
function usedIcons() {
  const used = new Set()
  for (const entry of readdirSync(join(root, 'src/lianxin'), { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name)
    if (!entry.isFile() || !/\.(py|html|js)$/.test(entry.name) || path.includes('/dist/')) continue
    for (const [, quoted, classed] of readFileSync(path, 'utf8').matchAll(/["'`]([a-z0-9-]+)["'`]|\bbi-([a-z0-9-]+)/g))
      if (everyIcon[quoted ?? classed]) used.add(quoted ?? classed)
  }
  return used
}
const icons = usedIcons()

const iconFont = {
  name: 'icon-font',
  setup(build) {
    build.onLoad({ filter: /bootstrap-icons\.woff2$/ }, ({ path }) => {
      const scratch = mkdtempSync(join(tmpdir(), 'icons-'))
      const out = join(scratch, 'icons.woff2')
      const codes = [...icons].map((name) => everyIcon[name].toString(16)).join(',')
      const python = [process.env.PYTHON, join(root, '.venv/bin/python'), 'python3'].find((p) => p && (existsSync(p) || !p.includes('/')))
      const run = spawnSync(python, ['-m', 'fontTools.subset', path, `--unicodes=${codes}`, '--flavor=woff2', `--output-file=${out}`])
      const whole = run.status !== 0 || !existsSync(out)
      if (whole) console.warn('the icon font is kept whole (fontTools did not run):', String(run.stderr ?? run.error))
      const contents = readFileSync(whole ? path : out)
      rmSync(scratch, { recursive: true, force: true })
      return { contents, loader: 'file' }
    })
  },
}

// A picture of an icon that a sheet names one by one goes into the sheet itself: no request, no font.
const inlineIcons = {
  name: 'inline-icons',
  setup(build) {
    build.onLoad({ filter: /bootstrap-icons[\\/]icons[\\/][a-z0-9-]+\.svg$/ }, ({ path }) => ({
      contents: readFileSync(path, 'utf8').replace(/ (?:class|width|height)="[^"]*"/g, '').replace(/\s+/g, ' '),
      loader: 'dataurl',
    }))
  },
}

const scss = {
  name: 'scss',
  setup(build) {
    build.onLoad({ filter: /\.scss$/ }, ({ path }) => {
      const result = sass.compile(path, { loadPaths: [source, modules], quietDeps: true, silenceDeprecations: ['import'] })
      return {
        contents: result.css.replace(/\.bi-([a-z0-9-]+)::before\s*\{[^}]*\}/g, (rule, name) => (icons.has(name) || !everyIcon[name] ? rule : '')),
        loader: 'css',
        resolveDir: dirname(path),
        watchFiles: result.loadedUrls.filter((url) => url.protocol === 'file:').map((url) => fileURLToPath(url)),
      }
    })
  },
}

const entries = readdirSync(source).filter((name) => /^[a-z][a-z0-9-]*\.(js|scss|css)$/.test(name))
const styled = new Set(entries.filter((name) => name.endsWith('.scss')).map((name) => name.slice(0, -5)))
const entryPoints = entries
  .filter((name) => !(name.endsWith('.css') && styled.has(name.slice(0, -4))))
  .map((name) => ({ in: join(source, name), out: name.replace(/\.[a-z]+$/, '') }))

rmSync(fresh, { recursive: true, force: true })
mkdirSync(fresh, { recursive: true })
const result = await esbuild.build({
  entryPoints,
  outdir: fresh,
  absWorkingDir: root,
  bundle: true,
  minify: true,
  sourcemap: false,
  format: 'iife',
  target: ['chrome109', 'firefox115', 'safari16'],
  charset: 'utf8',
  legalComments: 'linked',
  assetNames: 'assets/[name]',
  loader: { '.woff': 'empty', '.woff2': 'file', '.svg': 'file', '.png': 'file' },
  plugins: [scss, iconFont, inlineIcons],
  nodePaths: [modules],
  metafile: true,
  logLevel: 'info',
})
const inputs = Object.keys(result.metafile.inputs).map((path) => path.split(':').pop())
writeFileSync(join(fresh, 'inputs.json'), JSON.stringify(inputs.filter((path) => !path.includes('node_modules')).sort(), null, 1))

const old = `${target}.old`
rmSync(old, { recursive: true, force: true })
mkdirSync(dirname(target), { recursive: true })
if (existsSync(target)) renameSync(target, old)
renameSync(fresh, target)
rmSync(old, { recursive: true, force: true })
