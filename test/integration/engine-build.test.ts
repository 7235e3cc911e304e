/** What Dockerfile syntax 1.x adds, on a real containerd: mounts of RUN, scripts, stages at once, images as caches. */
import { after, before, test } from 'node:test'
import assert from 'node:assert/strict'
import type { BuildOptions, ImageInfo } from '../../src/engine/index.ts'
import { BuildFailure } from '../../src/engine/index.ts'
import { contextOf } from './engine-build-support.ts'
import { IMAGE, TestMachine } from './engine-support.ts'

const m = new TestMachine()

before(async () => {
  await m.start()
  m.engine.setBuildNetwork({
    open: (_id, o) => Promise.resolve({ netnsPath: o?.network === 'host' ? undefined : m.netns, resolvConf: 'nameserver 192.0.2.1\n', close: () => Promise.resolve() }),
  })
})
after(() => m.stop())

async function build(files: Record<string, string>, options: Partial<BuildOptions> = {}): Promise<{ image: ImageInfo; output: string }> {
  let output = ''
  const image = await m.engine.builder.build({ context: contextOf(files), tags: ['test/built'], onProgress: p => { output += p.stream ?? '' }, ...options })
  return { image, output }
}

test('mounts of RUN: context, stages, caches, memory and secrets; nothing of them stays in the image', async () => {
  const Dockerfile = [
    `FROM ${IMAGE} AS other`, 'RUN mkdir /made && echo made > /made/file',
    `FROM ${IMAGE}`, 'WORKDIR /work',
    'RUN --mount=target=/ctx --mount=type=bind,from=other,src=/made,target=/deep/er/other cat /ctx/dir/a /deep/er/other/file > got && ! touch /ctx/x 2>/dev/null && cp -P /ctx/dir/link .',
    'RUN --mount=type=bind,source=dir,target=/rw,rw echo changed > /rw/a && cat /rw/a',
    'RUN --mount=type=cache,target=/cache,id=c1,uid=7 echo $(($(cat /cache/n 2>/dev/null || echo 0) + 1)) > /cache/n; echo count $(cat /cache/n) owner $(stat -c %u /cache)',
    'RUN --mount=type=tmpfs,target=/mem grep " /mem tmpfs" /proc/mounts > /dev/null && touch /mem/gone',
    'RUN --mount=type=secret,id=pw --mount=type=secret,id=tok,env=TOKEN,required test $(wc -c < /run/secrets/pw)/$TOKEN = 6/word && stat -c %a /run/secrets/pw',
    'RUN --network=host ls /sys/class/net',
  ].join('\n')
  const files = { Dockerfile, 'dir/a': 'from the context\n', 'dir/link': '->a' }
  const secrets = { pw: Buffer.from('hidden'), tok: Buffer.from('word') }
  const { image, output } = await build(files, { secrets })
  assert.match(output, /changed\n/)
  assert.match(output, /count 1 owner 7/)
  assert.match(output, /\n400\n/)
  assert.equal(await m.output('mounts', ['sh', '-c', 'cat /work/got; readlink /work/link; ls -d /ctx /deep /rw /cache /mem /run 2>/dev/null; true'], { image: 'test/built' }),
    'from the context\nmade\na\n')
  assert.ok(!JSON.stringify(image).includes('hidden') && !output.includes('hidden'), 'the secret is nowhere')

  // All cached, though the cache's folder has changed; another context binds anew.
  assert.equal((await build(files, { secrets })).output.match(/Using cache/g)?.length, 8)
  const again = await build({ ...files, 'dir/a': 'new\n' }, { secrets })
  assert.match(again.output, /count 2/)
  await assert.rejects(build({ Dockerfile: `FROM ${IMAGE}\nRUN --mount=type=secret,id=no,required true` }), /on line 2: secret no: not found/)
  await assert.rejects(build({ Dockerfile: `FROM ${IMAGE}\nRUN --mount=src=nosuch,target=/x true` }), /nosuch/)

  const before = await m.engine.builder.cache()
  assert.ok(before.some(e => e.description.includes('type=cache') && e.sizeBytes > 0))
  const pruned = await m.engine.builder.prune()
  assert.equal(pruned.ids.length, before.length)
  assert.deepEqual(await m.engine.builder.cache(), [])
})

test('a layer holds what the step did, not the places where things were mounted', async () => {
  const { image } = await build({ Dockerfile: `FROM ${IMAGE}\nRUN --mount=type=tmpfs,target=/a/b/c true\nRUN --mount=type=tmpfs,target=/made/x mkdir /made/y` })
  assert.equal(await m.output('stubs', ['sh', '-c', 'ls -d /a; find /made'], { image: image.id }).then(t => t.replace(/^ls: .*\n/m, '')), '/made\n/made/y\n')
})

test('a here-document that names its interpreter runs by itself; a failing step tells its code', async () => {
  const { output } = await build({ Dockerfile: `FROM ${IMAGE}\nRUN <<EOF\n#!/bin/sh -e\necho $0 $((6 * 7))\nEOF\nRUN <<EOF\necho one\necho two\nEOF` })
  assert.match(output, /pipes\/script 42\n/)
  assert.match(output, /one\ntwo\n/)
  await assert.rejects(build({ Dockerfile: `FROM ${IMAGE}\nRUN exit 9` }), (e: Error) => e instanceof BuildFailure && e.exitCode === 9)
})

test('stages that need nothing of each other run at once, and speak in turn; one that fails ends the others', async () => {
  const stage = (name: string): string => `FROM ${IMAGE} AS ${name}\nRUN echo ${name}-begins; sleep 1.5; echo ${name}-ends > /${name}\n`
  const began = performance.now()
  const { output } = await build({ Dockerfile: `${stage('one')}${stage('two')}FROM ${IMAGE}\nCOPY --from=one /one /\nCOPY --from=two /two /\n` })
  const ms = performance.now() - began
  assert.ok(output.indexOf('one-begins') < output.indexOf('Step 3/7') && output.indexOf('Step 4/7') < output.indexOf('two-begins'))
  assert.deepEqual([...output.matchAll(/^Step (\d+)\/7/gm)].map(x => x[1]), ['1', '2', '3', '4', '5', '6', '7'])
  assert.equal(await m.output('both', ['cat', '/one', '/two'], { image: 'test/built' }), 'one-ends\ntwo-ends\n')
  // One after the other they would sleep for 3 s.
  assert.ok(ms < 2950, `took ${Math.round(ms)} ms`)
  const failing = performance.now()
  await assert.rejects(build({ Dockerfile: `FROM ${IMAGE} AS slow\nRUN sleep 100\nFROM ${IMAGE} AS bad\nRUN exit 3\nFROM ${IMAGE}\nCOPY --from=slow / /a\nCOPY --from=bad / /b` }),
    /returned a non-zero code: 3/)
  assert.ok(performance.now() - failing < 20_000)
})

test('an image that cacheFrom names gives its layers; labels are a step of their own', async () => {
  const Dockerfile = `FROM ${IMAGE}\nCOPY f /f\nRUN date +%N > /when\nENV A=1`
  const first = await build({ Dockerfile, f: 'x' }, { tags: ['test/source'], labels: { b: 'two words', a: '1' } })
  assert.match(first.output, /Step 5\/5 : LABEL a=1 b=two words/)
  assert.deepEqual(first.image.labels, { a: '1', b: 'two words' })
  await m.engine.builder.prune()
  const second = await build({ Dockerfile, f: 'x' }, { cacheFrom: ['test/source', 'test/nosuch'], labels: { b: 'two words', a: '1' } })
  assert.equal(second.image.id, first.image.id)
  await m.engine.builder.prune()
  assert.doesNotMatch((await build({ Dockerfile, f: 'x' })).output, /Using cache/)
})
