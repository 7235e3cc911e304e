/** The same docker commands on two daemons: what a user sees must be the same but for ids, times and addresses. */
import { spawn } from 'node:child_process'
import { copyFileSync, existsSync, mkdirSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { run } from './gantry.ts'
import type { Result } from './gantry.ts'
import type { DockerDaemon } from './docker.ts'

export interface Step { command: string; code: number | null; stdout: string; stderr: string }

/** One daemon's run through a transcript. Every `sh` is recorded. */
export class Transcript {
  readonly steps: Step[] = []
  readonly daemon: DockerDaemon
  readonly #docker: string
  /** A folder of the test's own on this machine. */
  readonly dir: string

  constructor(daemon: DockerDaemon, docker: string, dir: string) {
    this.daemon = daemon
    this.#docker = docker
    this.dir = dir
    mkdirSync(dir, { recursive: true })
  }

  /** One shell line in which `docker` is the real command. Recorded and compared. */
  async sh(line: string, o: { input?: string; timeoutMs?: number } = {}): Promise<Step> {
    const step = seen(line, await this.quiet(line, o))
    this.steps.push(step)
    return step
  }

  /** Like `sh`, for outputs whose lines come in any order. */
  async unordered(line: string): Promise<void> {
    const r = await this.quiet(line)
    this.steps.push(seen(line, { ...r, stdout: r.stdout.split('\n').sort().join('\n'), stderr: r.stderr.split('\n').sort().join('\n') }))
  }

  /** Not recorded: preparations, and what differs by nature. */
  quiet(line: string, o: { input?: string; timeoutMs?: number } = {}): Promise<Result> {
    const prelude = `docker() { command ${this.#docker} "$@"; }; `
    return run('sh', ['-c', prelude + line], { env: this.daemon.env, cwd: this.dir, timeoutMs: o.timeoutMs ?? 60_000, ...(o.input !== undefined && { input: o.input }) })
  }

  /** In a terminal of 24 × 80: types each text after its prompt-like pattern has been seen. */
  async terminal(line: string, dialogue: [expect: RegExp, type: string][]): Promise<Step> {
    const step = seen(line, await inTerminal(this.#docker, line, dialogue, this.daemon.env, this.dir))
    this.steps.push(step)
    return step
  }
}

function seen(command: string, r: Result): Step { return { command, code: r.code, stdout: normalise(r.stdout), stderr: normalise(r.stderr) } }

/** Ids, times, addresses and sizes that come from them, in this order. */
const varying: [RegExp, string][] = [
  // The client's own complaint about a stream it gave up, there or not as it happens.
  [/^time="[^\n]*(error waiting for container|Can't add file|Can't close tar)[^\n]*\n/gm, ''],
  // Cursor queries and redrawn prompts of an interactive shell.
  [/\r[^\n\r]*\x1b\[J|\x1b\[\d*[A-Za-z]/g, ''],
  [/\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)/g, 'TIME'],
  [/\b\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)? [+-]\d{4}( UTC)?/g, 'TIME'],
  [/sha256:[0-9a-f]{64}/g, 'sha256:DIGEST'],
  [/\b[0-9a-f]{64}\b/g, 'ID64'],
  [/\b[0-9a-f]{12}\b/g, 'ID12'],
  [/\b02:42(:[0-9a-f]{2}){4}\b|\b([0-9a-f]{2}:){5}[0-9a-f]{2}\b/g, 'MAC'],
  [/\b(172|192|10)(\.\d{1,3}){3}\b/g, 'IP'],
  [/\b(About an?|Less than a|\d+) (second|minute|hour)s?( ago)?/g, 'AGE'],
  [/\b(veth|br-)[0-9a-f]{7,12}\b/g, '$1NAME'],
  // What newer engines, whose API Gantry speaks, say otherwise than Debian's.
  [/^(Removing| ---> Removed) intermediate container/gm, 'Removed intermediate container'],
  [/parse error (on )?line (\d)/g, 'parse error on line $2'],
  [/invalid CapAdd(\/CapDrop)?:/g, 'invalid CapAdd:'],
  [/failed to set up container networking: /g, ''],
  [/(You cannot remove a running container ID64\. Stop the container before attempting removal|cannot remove container "[^"]*": container is running: stop the container before removing) or force remove/g,
    'the container is running'],
  [/failed to create task for container: /g, ''],
  [/Container (?=ID64 is not running)/g, 'container '],
  [/has active endpoints.*/g, 'has active endpoints'],
  [/error while removing network: network (\S+)( id ID64)? has/g, 'error while removing network: network $1 has'],
  [/([Ii]nvalid address [0-9.]+: It does not belong to any of this network's subnets|no configured subnet contains IP address [0-9.]*\d)\.?/g, 'no such subnet'],
  [/invalid config for network default: invalid endpoint settings:\n/g, ''],
  [/on endpoint (\S+) \(ID64\):/g, 'on endpoint $1:'],
  // Debian's prints the owner and what follows as one word, and Go's idea of a structure.
  [/(#\(nop\) COPY --chown=[^ ]*?) ?(?=file:)/g, '$1 '],
  [/#\(nop\)  HEALTHCHECK .*/g, '#(nop)  HEALTHCHECK'],
]

export function normalise(text: string): string {
  const plain = varying.reduce((t, [pattern, to]) => t.replace(pattern, to), text.replaceAll('\r\n', '\n'))
  // Newer engines begin their errors with small letters.
  return plain.replace(/(?<=Error response from daemon: )[A-Z]/g, c => c.toLowerCase())
}

/** `script` gives the terminal; the dialogue goes through its stdin. */
function inTerminal(docker: string, line: string, dialogue: [RegExp, string][], env: NodeJS.ProcessEnv, cwd: string): Promise<Result> {
  return new Promise((resolve, reject) => {
    const inner = `stty rows 24 cols 80; ${line.replace(/^docker /, `${docker} `)}`
    const child = spawn('script', ['-qec', inner, '/dev/null'], { env, cwd, stdio: ['pipe', 'pipe', 'pipe'] })
    let [stdout, stderr, from] = ['', '', 0]
    const left = [...dialogue]
    const timer = setTimeout(() => child.kill('SIGKILL'), 60_000)
    const talk = (): void => {
      const next = left[0]
      if (next === undefined) return
      const m = next[0].exec(stdout.slice(from))
      if (m === null) return
      from += m.index + m[0].length
      left.shift()
      child.stdin.write(next[1])
      talk()
    }
    child.stdout.on('data', d => { stdout += d; talk() })
    child.stderr.on('data', d => { stderr += d })
    child.once('error', reject)
    child.once('close', code => {
      clearTimeout(timer)
      resolve({ code, stdout, stderr })
    })
    child.stdin.on('error', () => { /* it has ended */ })
  })
}

/** A docker archive of the machine's static busybox as `busybox:latest`, the same bytes for both daemons, so that ids are the same. */
export async function busyboxArchive(dir: string, through: DockerDaemon): Promise<string> {
  const rootfs = join(dir, 'busybox-rootfs')
  for (const d of ['bin', 'etc', 'tmp', 'root', 'var', 'home', 'usr']) mkdirSync(join(rootfs, d), { recursive: true })
  copyFileSync(existsSync('/bin/busybox') ? '/bin/busybox' : '/usr/bin/busybox', join(rootfs, 'bin/busybox'))
  for (const applet of (await run('busybox', ['--list'])).stdout.trim().split('\n')) if (applet !== 'busybox') symlinkSync('busybox', join(rootfs, 'bin', applet))
  const script = `chmod 755 ${rootfs}/bin/busybox && chmod 1777 ${rootfs}/tmp && printf 'root:x:0:0:root:/root:/bin/sh\\nuser:x:1000:1000::/home:/bin/sh\\n' > ${rootfs}/etc/passwd
    printf 'root:x:0:\\nuser:x:1000:\\nextra:x:2000:user\\n' > ${rootfs}/etc/group && tar -C ${rootfs} --owner=0 --group=0 --sort=name --mtime=@0 -cf ${dir}/rootfs.tar .`
  const made = await run('sh', ['-c', script])
  if (made.code !== 0) throw new Error(made.stderr)
  await through.ok('import', '-c', 'CMD ["sh"]', '-c', 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', join(dir, 'rootfs.tar'), 'busybox:latest')
  const archive = join(dir, 'busybox.tar')
  await through.ok('save', '-o', archive, 'busybox:latest')
  return archive
}
