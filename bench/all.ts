/** Runs every benchmark, one after the other, and prints one table: `npm run bench`. Needs root. */
import { fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { printMachine, printRow } from './support.ts'
import type { Row } from './support.ts'

/** Each with arguments that keep the whole under fifteen minutes. */
const files: [file: string, ...args: string[]][] = [
  ['engine-start.ts', '10'], ['docker-start.ts', '8'], ['scheduler.ts'], ['api.ts'], ['up.ts', '3'], ['node.ts', '8'], ['network.ts', 'throughput'], ['docker.ts', '5'],
]

function run(file: string, args: string[]): Promise<{ rows: Row[]; failed: boolean }> {
  const rows: Row[] = []
  return new Promise(resolve => {
    const child = fork(fileURLToPath(new URL(file, import.meta.url)), args)
    child.on('message', r => {
      rows.push(r as Row)
      printRow(r as Row)
    })
    child.once('exit', code => resolve({ rows, failed: code !== 0 }))
  })
}

printMachine()
const rows: Row[] = []
const failed: string[] = []
for (const [file, ...args] of files) {
  const began = performance.now()
  const result = await run(file, args)
  rows.push(...result.rows)
  if (result.failed) failed.push(file)
  console.log(`-- ${file} took ${((performance.now() - began) / 1000).toFixed(0)} s${result.failed ? ' and FAILED' : ''}`)
}
console.log('\nwhat was promised:')
for (const r of rows.filter(r => r.met !== undefined)) printRow(r)
printMachine()
const missed = rows.filter(r => r.met === false).length
console.log(`${rows.filter(r => r.met).length} met, ${missed} not${failed.length === 0 ? '' : `; failed: ${failed.join(', ')}`}`)
// A slow machine is no error of the program's; a benchmark that cannot run is.
process.exitCode = failed.length === 0 ? 0 : 1
