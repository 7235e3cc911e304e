/** `docker exec`: made, then started once; told about until its container is gone. */
import type { ProcessStreams } from '../../../engine/engine.ts'
import type { ExecsBackend, Streams } from '../backend.ts'
import { DockerError } from '../errors.ts'
import type { ExecConfig } from '../model.ts'
import { newId } from '../shared/names.ts'
import { SIGKILL } from '../shared/signals.ts'
import type { Container } from './containers/container.ts'
import { dockerError, emit } from './containers/context.ts'
import type { Context } from './containers/context.ts'
import { consumed, mergedOutput } from './containers/streams.ts'

/** A resize may come before the start has got through. */
const START_MS = 10_000
/** Ended ones are forgotten after one to two of these. */
const SWEEP_MS = 300_000
const PROBE_OUTPUT_BYTES = 4096

interface Exec {
  id: string
  container: Container
  config: ExecConfig
  state: 'made' | 'starting' | 'running' | 'ended'
  exitCode: number | null
  process?: ProcessStreams
  started: PromiseWithResolvers<ProcessStreams>
  stale: boolean
}

export class Execs implements ExecsBackend {
  readonly #x: Context
  readonly #execs = new Map<string, Exec>()
  readonly #sweeper: NodeJS.Timeout

  constructor(x: Context) {
    this.#x = x
    this.#sweeper = setInterval(() => { this.#sweep() }, SWEEP_MS).unref()
  }

  close(): void { clearInterval(this.#sweeper) }

  create(containerRef: string, config: ExecConfig): Promise<{ Id: string }> {
    return Promise.resolve().then(() => {
      const c = this.#x.registry.resolve(containerRef)
      checkRunning(c, containerRef)
      if (config.Cmd === undefined || config.Cmd === null || config.Cmd.length === 0) throw new DockerError('invalid', 'No exec command specified')
      return { Id: this.#make(c, config).id }
    })
  }

  #make(c: Container, config: ExecConfig): Exec {
    const exec: Exec = { id: newId(), container: c, config, state: 'made', exitCode: null, started: Promise.withResolvers(), stale: false }
    // Nobody need wait for it.
    exec.started.promise.catch(() => undefined)
    this.#execs.set(exec.id, exec)
    c.execIds.add(exec.id)
    emit(this.#x, c, `exec_create: ${config.Cmd.join(' ')}`, { execID: exec.id })
    return exec
  }

  async start(id: string, options: { detach: boolean; raw?: boolean; consoleSize?: [number, number] }): Promise<Streams | undefined> {
    const exec = this.#get(id)
    if (exec.state === 'ended') throw new DockerError('conflict', `exec command ${id} has already run`)
    if (exec.state !== 'made') throw new DockerError('conflict', `exec command ${id} is already running`)
    checkRunning(exec.container, exec.container.id)
    const { config } = exec
    const size = options.consoleSize ?? config.ConsoleSize
    const process = await this.#run(exec, options.detach ? { ...config, AttachStdin: false } : config, size)
    if (options.detach) {
      if (process.failure !== undefined) throw new DockerError('invalid', (await textOf(process)).trim())
      process.stdout.resume()
      process.stderr?.resume()
      return undefined
    }
    return this.#streams(exec, process, options.raw === true)
  }

  async #run(exec: Exec, config: ExecConfig, size?: [number, number]): Promise<ProcessStreams> {
    const c = exec.container
    exec.state = 'starting'
    emit(this.#x, c, `exec_start: ${config.Cmd.join(' ')}`, { execID: exec.id })
    let process: ProcessStreams
    try {
      process = await this.#x.engine.containers.exec(c.id, {
        command: config.Cmd, tty: config.Tty === true, stdin: config.AttachStdin === true, privileged: config.Privileged === true,
        ...(config.Env == null ? {} : { env: config.Env }), ...(config.WorkingDir ? { workingDir: config.WorkingDir } : {}),
        ...(config.User ? { user: config.User } : {}), ...(size === undefined || size[0] === 0 ? {} : { consoleSize: { rows: size[0], columns: size[1] } }),
      })
    } catch (e) {
      this.#ended(exec, 126)
      const error = dockerError(e)
      exec.started.reject(error)
      throw error
    }
    exec.process = process
    exec.state = 'running'
    exec.started.resolve(process)
    void process.exit.then((code) => { this.#ended(exec, code) }, () => { this.#ended(exec, 137) })
    return process
  }

  #ended(exec: Exec, code: number): void {
    exec.state = 'ended'
    exec.exitCode = code
    exec.container.execIds.delete(exec.id)
    emit(this.#x, exec.container, 'exec_die', { execID: exec.id, exitCode: String(code) })
  }

  #streams(exec: Exec, process: ProcessStreams, raw: boolean): Streams {
    const { config } = exec
    const tty = config.Tty === true
    if (config.AttachStdout !== true) process.stdout.resume()
    if (config.AttachStderr !== true) process.stderr?.resume()
    // Docker says on stdout why a process could not be started. The end of the output tells the client to ask for the exit code: it must be known.
    const own = process.failure === undefined ? process : { stdout: process.stderr ?? process.stdout, stderr: undefined }
    const output = mergedOutput({
      raw, ...(config.AttachStdout === true ? { stdout: own.stdout } : {}),
      ...(config.AttachStderr === true && own.stderr !== undefined ? { stderr: own.stderr } : {}),
    }, { last: process.exit })
    const input = process.stdin as Streams['input']
    input?.on('error', () => undefined)
    return {
      tty, output, ...(input === undefined ? {} : { input }),
      close: (detached) => {
        if (detached === true) emit(this.#x, exec.container, 'exec_detach', { execID: exec.id })
        process.close()
        output.destroy()
      },
    }
  }

  async resize(id: string, size: { height: number; width: number }): Promise<void> {
    const exec = this.#get(id)
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => { reject(new DockerError('failed', 'timeout waiting for exec session ready')) }, START_MS)
    })
    try {
      const process = await Promise.race([exec.started.promise, late])
      if (exec.state === 'ended') throw new DockerError('failed', 'cannot resize a stopped container: exec process has already finished')
      await process.resize(size.width, size.height).catch((e: unknown) => { throw dockerError(e) })
    } finally {
      clearTimeout(timer)
    }
  }

  inspect(id: string): ReturnType<ExecsBackend['inspect']> {
    return Promise.resolve().then(() => {
      const { config, container, state, exitCode, process } = this.#get(id)
      const [entrypoint = '', ...args] = config.Cmd
      return {
        ID: id, Running: state === 'running', ExitCode: exitCode,
        ProcessConfig: {
          tty: config.Tty === true, entrypoint, arguments: args, privileged: config.Privileged === true, ...(config.User ? { user: config.User } : {}),
        },
        OpenStdin: config.AttachStdin === true, OpenStdout: config.AttachStdout === true, OpenStderr: config.AttachStderr === true,
        CanRemove: state === 'ended', ContainerID: container.id, DetachKeys: config.DetachKeys ?? '', Pid: state === 'running' ? process?.pid ?? 0 : 0,
      }
    })
  }

  #get(id: string): Exec {
    const exec = this.#execs.get(id)
    if (exec === undefined || this.#x.registry.get(exec.container.id) !== exec.container) throw new DockerError('not-found', `No such exec instance: ${id}`)
    return exec
  }

  #sweep(): void {
    for (const [id, exec] of this.#execs) {
      if (this.#x.registry.get(exec.container.id) !== exec.container || (exec.state === 'ended' && exec.stale)) this.#execs.delete(id)
      else if (exec.state === 'ended') exec.stale = true
    }
  }

  /** A health check's probe: an exec nobody attaches to, ended when its time is over. */
  async probe(c: Container, command: string[], timeoutMs: number): Promise<{ exitCode: number; output: string }> {
    const exec = this.#make(c, { Cmd: command, AttachStdout: true, AttachStderr: true })
    const process: ProcessStreams = await this.#run(exec, exec.config)
    const pieces: Buffer[] = []
    let length = 0
    for (const s of [process.stdout, process.stderr]) {
      s?.on('data', (b: Buffer) => {
        if (length <= PROBE_OUTPUT_BYTES) pieces.push(b)
        length += b.length
      })
    }
    const text = (): string => {
      const all = Buffer.concat(pieces)
      return all.length > PROBE_OUTPUT_BYTES ? `${all.subarray(0, PROBE_OUTPUT_BYTES).toString()}...` : all.toString()
    }
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<undefined>((resolve) => { timer = setTimeout(() => { resolve(undefined) }, timeoutMs) })
    const ended = Promise.all([process.exit, consumed(process.stdout), process.stderr === undefined ? undefined : consumed(process.stderr)])
    const result = await Promise.race([ended, late])
    clearTimeout(timer)
    if (result !== undefined) return { exitCode: result[0], output: text() }
    await process.kill?.(SIGKILL).catch(() => undefined)
    process.close()
    const so = text()
    return { exitCode: -1, output: `Health check exceeded timeout (${goDuration(timeoutMs)})${so === '' ? '' : `: ${so}`}` }
  }
}

/** `ref`: as its user calls it. */
function checkRunning(c: Container, ref: string): void {
  if (!c.running) throw new DockerError('conflict', `container ${c.id} is not running`)
  if (c.paused) throw new DockerError('conflict', `container ${ref} is paused, unpause the container before exec`)
  if (c.restarting) throw new DockerError('conflict', `container ${ref} is restarting, wait until the container is running`)
}

async function textOf(process: ProcessStreams): Promise<string> {
  const pieces: Buffer[] = []
  for await (const b of process.stderr ?? process.stdout) pieces.push(b as Buffer)
  return Buffer.concat(pieces).toString()
}

/** As Go prints a duration: `1m30s`, `1.5s`, `500ms`. */
export function goDuration(ms: number): string {
  if (ms < 1000) return `${ms}ms`
  const hours = Math.floor(ms / 3_600_000)
  const minutes = Math.floor(ms / 60_000) % 60
  const seconds = Number(((ms % 60_000) / 1000).toFixed(9))
  return `${hours > 0 ? `${hours}h` : ''}${ms >= 60_000 ? `${minutes}m` : ''}${seconds}s`
}

