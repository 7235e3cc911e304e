// Lint: TypeScript's recommended rules, a few of style, and the room rule: which folder of src/ may import which.
import { dirname, relative, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import tseslint from 'typescript-eslint'

const root = dirname(fileURLToPath(import.meta.url))

/** Room → rooms it may import besides itself. ARCHITECTURE.md explains the table; `machines/layout.ts` is open to all. */
const rooms = {
  files: [],
  core: [],
  store: ['core'],
  client: ['core'],
  server: ['core', 'store'],
  scheduler: ['core'],
  controllers: ['core'],
  engine: ['files'],
  plugins: [],
  network: ['files', 'plugins'],
  volumes: ['files', 'plugins'],
  telemetry: ['core'],
  node: ['core', 'files', 'client', 'engine', 'network', 'volumes', 'telemetry'],
  router: ['core', 'files', 'client', 'network'],
  machines: ['core', 'files', 'engine', 'router', 'network'],
  dialects: ['core', 'server'],
  // The Docker front alone speaks an engine's API on its machine.
  'dialects/docker': ['core', 'server', 'files', 'engine', 'network', 'volumes'],
  cli: ['core', 'client', 'machines', 'dialects', 'server', 'node', 'router', 'engine', 'telemetry'],
  web: [],
}
/** Composition roots: files that put rooms together. */
const open = new Set(['src/server/main.ts', 'src/dialects/index.ts'])

const roomRule = {
  meta: { type: 'problem', messages: { wall: 'the room "{{from}}" may not import "{{to}}" ({{allowed}})' }, schema: [] },
  create(context) {
    const file = relative(root, context.filename)
    const [, top, sub] = /^src\/([^/]+)\/(?:([^/]+)\/)?/.exec(file) ?? []
    const from = rooms[`${top}/${sub}`] === undefined ? top : `${top}/${sub}`
    if (top === undefined || open.has(file) || file.endsWith('.test.ts') || file.includes('/testing/')) return {}
    const check = node => {
      const source = node.source?.value
      if (typeof source !== 'string' || !source.startsWith('.')) return
      const target = relative(root, resolve(dirname(context.filename), source))
      const [, to] = /^src\/([^/]+)\//.exec(target) ?? []
      if (to === undefined || to === top || target === 'src/machines/layout.ts' || rooms[from]?.includes(to)) return
      const allowed = rooms[from] === undefined ? 'an unknown room' : `it may: ${rooms[from].join(', ') || 'none'}`
      context.report({ node, messageId: 'wall', data: { from, to, allowed } })
    }
    return { ImportDeclaration: check, ExportNamedDeclaration: check, ExportAllDeclaration: check, ImportExpression: check }
  },
}

export default tseslint.config(
  { ignores: ['node_modules/', 'src/web/dist/', '.gantry/'] },
  ...tseslint.configs.recommended,
  {
    files: ['**/*.ts', '**/*.js'],
    plugins: { gantry: { rules: { rooms: roomRule } } },
    rules: {
      'gantry/rooms': 'error',
      'eqeqeq': ['error', 'always', { null: 'ignore' }],
      'no-constant-condition': ['error', { checkLoops: false }],
      'max-len': ['error', { code: 160, ignoreStrings: true, ignoreTemplateLiterals: true, ignoreRegExpLiterals: true }],
      '@typescript-eslint/consistent-type-imports': 'error',
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_', varsIgnorePattern: '^_', destructuredArrayIgnorePattern: '^_' }],
    },
  },
)
