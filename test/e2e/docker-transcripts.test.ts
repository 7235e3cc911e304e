/** The transcripts of `test/support/docker-transcripts.ts` on Gantry's engine and on Debian's dockerd: same codes, same words. */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { isDeepStrictEqual } from 'node:util'
import { Dockerd, dockerCommands, GantryEngine } from '../support/docker.ts'
import { subjects } from '../support/docker-transcripts.ts'
import { busyboxArchive, Transcript } from '../support/transcript.ts'
import type { Step } from '../support/transcript.ts'

let gantry: GantryEngine, dockerd: Dockerd
const dir = mkdtempSync(join(tmpdir(), 'gantry-transcripts-'))

before(async () => {
  [dockerd, gantry] = await Promise.all([Dockerd.start(), GantryEngine.start()])
  const archive = await busyboxArchive(dir, dockerd)
  await gantry.ok('load', '-q', '-i', archive)
}, { timeout: 120_000 })

after(async () => {
  await Promise.all([gantry?.stop(), dockerd?.stop()])
  rmSync(dir, { recursive: true, force: true })
}, { timeout: 120_000 })

for (const docker of dockerCommands) {
  describe(`${docker}`, () => {
    for (const [name, subject] of Object.entries(subjects)) {
      test(name, { timeout: 180_000 }, async () => {
        const run = async (daemon: GantryEngine | Dockerd): Promise<Transcript> => {
          const t = new Transcript(daemon, docker, join(dir, `${daemon.name}-${docker.replaceAll('/', '_')}-${name.replace(/\W+/g, '-')}`))
          try {
            await subject(t)
          } finally {
            // Both begin the next subject with busybox alone, nothing built and nothing to take from a cache.
            await t.quiet(`docker rm -fv $(docker ps -aq); docker network prune -f; docker volume prune -af || docker volume prune -f
              docker rmi -f $(docker images --format '{{.Repository}}:{{.Tag}}' | grep -v -e ^busybox: -e none); docker image prune -f; docker builder prune -af`)
          }
          return t
        }
        const [ours, theirs] = await Promise.all([run(gantry), run(dockerd)])
        const differing = theirs.steps.flatMap((step, i) => (same(ours.steps[i], step) ? [] : [difference(ours.steps[i], step)]))
        assert.equal(differing.length, 0, `\n${differing.join('\n')}`)
      })
    }
  })
}

/** The commands themselves may hold a time. */
function same(ours: Step | undefined, theirs: Step): boolean { return isDeepStrictEqual({ ...ours, command: theirs.command }, theirs) }

function difference(ours: Step | undefined, theirs: Step): string {
  const shown = (s: Step | undefined): string => (s === undefined ? 'not reached' : `${s.code}\n${s.stdout}${s.stderr}`).replace(/\n(?=.)/g, '\n    ')
  return `$ ${theirs.command}\n  dockerd: ${shown(theirs)}\n  gantry:  ${shown(ours)}`
}
