/**
 * The node agent with a real API server, containerd, log daemon and network, in namespaces of its own: whatever goes wrong,
 * the end of the first process there ends all of them, and this machine's network is not touched.
 */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'

test('the node agent on a machine of its own', { timeout: 180_000 }, async () => {
  const lab = fileURLToPath(new URL('lab/node-agent-lab.ts', import.meta.url))
  const { NODE_TEST_CONTEXT: _, ...env } = process.env
  const child = spawn('unshare', [
    '--net', '--mount', '--pid', '--fork', '--kill-child=SIGKILL', '--mount-proc', process.execPath, '--disable-warning=ExperimentalWarning', lab,
  ], { stdio: ['pipe', 'pipe', 'inherit'], env })
  let output = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => { output += text })
  const [code] = await once(child, 'close') as [number]
  for (const line of output.split('\n').filter(l => l.includes('measured'))) process.stdout.write(`${line}\n`)
  assert.equal(code, 0, output)
})
