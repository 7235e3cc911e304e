/** Runs a program with arguments, never through a shell. */
import { execFile, spawn } from 'node:child_process'

/** Resolves with stdout; rejects with the command and what it printed to stderr. `input` goes to stdin. */
export function run(command: string, args: readonly string[], input?: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = execFile(command, [...args], { maxBuffer: 16 << 20, encoding: 'utf8' }, (error, stdout, stderr) => {
      if (error === null) return resolve(stdout)
      reject(new Error(`${command} ${args.join(' ')}: ${stderr.trim() || error.message}`))
    })
    child.stdin?.on('error', () => { /* the program ended before it read all: its exit says why */ })
    child.stdin?.end(input ?? '')
  })
}

/** Starts a program in its own session that goes on after this process; resolves with its pid. */
export function startDetached(command: string, args: readonly string[], logFd: number | 'ignore' = 'ignore'): Promise<number> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, [...args], { detached: true, stdio: ['ignore', logFd, logFd] })
    child.once('error', reject)
    child.once('spawn', () => {
      child.unref()
      resolve(child.pid!)
    })
  })
}
