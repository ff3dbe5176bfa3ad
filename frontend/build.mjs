// Builds the pages' assets: every entry of src/lianxin/portal/static_src that exists goes to src/lianxin/portal/static/dist.
//   app.scss or app.css → app.css     app.js → app.js     charts.js → charts.js (loaded only by pages that draw)
// Fonts and pictures are copied beside them. File names get their hashes later, from Django's collectstatic.
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import * as esbuild from 'esbuild'
import * as sass from 'sass'

const root = resolve(dirname(fileURLToPath(import.meta.url)), '..')
const source = join(root, 'src/lianxin/portal/static_src')
const target = join(root, 'src/lianxin/portal/static/dist')
const fresh = `${target}.new`
const modules = join(root, 'node_modules')

const scss = {
  name: 'scss',
  setup(build) {
    build.onLoad({ filter: /\.scss$/ }, ({ path }) => {
      const result = sass.compile(path, { loadPaths: [source, modules], quietDeps: true, silenceDeprecations: ['import'] })
      return {
        contents: result.css,
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
  plugins: [scss],
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
