import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseInstruction } from './dockerfile.ts'
import { parseRunFlags } from './run-flags.ts'

const parse = (text: string) => parseRunFlags(parseInstruction(`RUN ${text} true`, 3), n => (n === 'DIR' ? '/var/x' : undefined), '\\', '/work')

test('mounts of every type, with defaults and short names', () => {
  assert.deepEqual(parse('--mount=target=/src --mount=type=cache,dst=$DIR,sharing=locked --mount=type=tmpfs,target=/t,size=64m').mounts, [
    { type: 'bind', target: '/src', source: '/', readOnly: true },
    { type: 'cache', target: '/var/x', id: '/var/x', sharing: 'locked', readOnly: false, mode: 0o755, uid: 0, gid: 0, source: '/' },
    { type: 'tmpfs', target: '/t', sizeBytes: 64 * 2 ** 20 },
  ])
  assert.deepEqual(parse('--mount=type=secret,id=npm --mount=type=secret,id=t,env=TOKEN --mount=type=bind,from=a,src=/b,target=c,rw').mounts, [
    { type: 'secret', id: 'npm', required: false, mode: 0o400, uid: 0, gid: 0, target: '/run/secrets/npm' },
    { type: 'secret', id: 't', required: false, mode: 0o400, uid: 0, gid: 0, env: 'TOKEN' },
    { type: 'bind', target: '/work/c', source: '/b', readOnly: false, from: 'a' },
  ])
  assert.deepEqual(parse('--network=none --mount=type=ssh'), { mounts: [], network: 'none' })
})

test('what is wrong is named with its line', () => {
  for (const [text, message] of [
    ['--mount=type=nosuch,target=/x', /on line 3: unsupported mount type "nosuch"/],
    ['--mount=type=tmpfs,target=/x,sharing=locked', /unexpected key 'sharing'/],
    ['--mount=type=cache', /needs a target/],
    ['--mount=type=ssh,required', /SSH agent/],
    ['--network=moon', /default, none or host/],
    ['--security=insecure', /not granted/],
    ['--mount=type=cache,target=/x,mode=9', /invalid value for mode/],
    ['--nosuch', /Unknown flag: nosuch/],
  ] as const) assert.throws(() => parse(text), message)
})
