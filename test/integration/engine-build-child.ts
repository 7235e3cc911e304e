/** Opens the engine whose options are given as JSON and builds an image whose RUN step does not end, to be killed in it. */
import { openEngine } from '../../src/engine/index.ts'
import type { EngineOptions } from '../../src/engine/index.ts'
import { IMAGE } from './engine-support.ts'
import { contextOf } from './engine-build-support.ts'

const [options, netns] = [JSON.parse(process.argv[2]!) as EngineOptions, process.argv[3]!]
const engine = await openEngine(options)
engine.setBuildNetwork({ open: () => Promise.resolve({ netnsPath: netns, resolvConf: '', close: () => Promise.resolve() }) })
await engine.builder.build({
  context: contextOf({ Dockerfile: `FROM ${IMAGE}\nRUN echo kept > /kept\nRUN echo begun && sleep 1000\n` }), tags: ['test/killed'],
  onProgress: (p) => { process.stdout.write(p.stream ?? '') },
})
