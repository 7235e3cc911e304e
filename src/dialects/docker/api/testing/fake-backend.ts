/**
 * A backend in memory for the API's tests: containers whose process is `cat` (it echoes its input, and ends with it), or `exit N`, or
 * `print TEXT`; no images, networks or volumes but those a test puts in.
 */
import { randomBytes } from 'node:crypto'
import { PassThrough, type Readable } from 'node:stream'
import type { DockerBackend, Streams } from '../../backend.ts'
import { DockerError } from '../../errors.ts'
import { frame, StreamNumber } from '../../frames.ts'
import type { ContainerConfig, ContainerInspect, CreateContainer, HostConfig } from '../../model.ts'

interface FakeContainer {
  id: string
  name: string
  request: CreateContainer
  status: 'created' | 'running' | 'exited'
  exitCode: number
  attached: { output: PassThrough; detached?: boolean; closed: boolean }[]
  started: Promise<void>
  begin(): void
  exited: Promise<void>
  exit(code: number): void
}

type Overrides = { [Part in keyof DockerBackend]?: Partial<DockerBackend[Part]> }

export class FakeBackend {
  readonly containers = new Map<string, FakeContainer>()
  readonly backend: DockerBackend

  constructor(overrides: Overrides = {}) {
    const own: Overrides = {
      containers: {
        list: async () => [...this.containers.values()].map(c => ({
          Id: c.id, Names: ['/' + c.name], Image: c.request.config.Image ?? '', ImageID: '', Command: (c.request.config.Cmd ?? []).join(' '),
          Created: 0, Ports: [], Labels: {}, State: c.status, Status: c.status, HostConfig: { NetworkMode: 'default', Annotations: { a: 'b' } },
          NetworkSettings: { Networks: {} }, Mounts: [],
        })),
        create: async request => this.#create(request),
        inspect: async ref => this.#inspect(this.find(ref)),
        start: async ref => this.#start(this.find(ref)),
        wait: async ref => {
          const c = this.find(ref)
          return { result: c.exited.then(() => ({ StatusCode: c.exitCode })) }
        },
        attach: async (ref, options) => this.#attach(this.find(ref), options.stdin),
        resize: async () => {},
        remove: async ref => { this.containers.delete(this.find(ref).id) },
      },
      system: {
        version: async () => ({ Version: '28.2.2', Os: 'linux', Arch: 'amd64', Components: [{ Name: 'Engine', Version: '28.2.2', Details: {} }] }),
        info: async () => ({ ID: 'x', Swarm: { LocalNodeState: 'inactive' }, Containerd: {}, SecurityOptions: ['name=seccomp,profile=builtin'] }),
      },
    }
    const part = (name: keyof DockerBackend): unknown => new Proxy({ ...own[name], ...overrides[name] }, {
      get: (target, method) => Reflect.get(target, method) as unknown
        ?? (() => { throw new DockerError('not-implemented', `the fake has no ${name}.${String(method)}`) }),
    })
    const parts = ['containers', 'execs', 'images', 'builds', 'networks', 'volumes', 'system', 'events'] as const
    this.backend = Object.fromEntries(parts.map(p => [p, part(p)])) as unknown as DockerBackend
  }

  find(ref: string): FakeContainer {
    const all = [...this.containers.values()]
    const found = all.find(c => c.id === ref || c.name === ref) ?? all.find(c => c.id.startsWith(ref))
    if (found === undefined) throw new DockerError('not-found', `No such container: ${ref}`)
    return found
  }

  #create(request: CreateContainer): { Id: string; Warnings: string[] } {
    const id = randomBytes(32).toString('hex')
    const { promise, resolve } = Promise.withResolvers<void>()
    const started = Promise.withResolvers<void>()
    const c: FakeContainer = {
      id, name: request.name ?? `fake_${id.slice(0, 6)}`, request, status: 'created', exitCode: 0, attached: [], started: started.promise, begin: started.resolve,
      exited: promise,
      exit(code) {
        c.status = 'exited'
        c.exitCode = code
        for (const a of c.attached) a.output.end()
        resolve()
        if (request.hostConfig.AutoRemove === true) all.delete(id)
      },
    }
    const all = this.containers
    all.set(id, c)
    return { Id: id, Warnings: [] }
  }

  #start(c: FakeContainer): void {
    if (c.status === 'running') throw new DockerError('not-modified', 'container already started')
    c.status = 'running'
    c.begin()
    const [command, argument = ''] = c.request.config.Cmd ?? []
    if (command === 'print') {
      this.print(c, StreamNumber.stdout, argument + '\n')
      this.print(c, StreamNumber.stderr, `not ${argument}\n`)
    }
    if (command === 'exit') c.exit(Number(argument))
    else if (command !== 'cat') c.exit(0)
  }

  print(c: FakeContainer, stream: number, text: string | Buffer): void {
    const payload = Buffer.from(text)
    for (const a of c.attached) a.output.write(c.request.config.Tty === true ? payload : frame(stream, payload))
  }

  #attach(c: FakeContainer, stdin: boolean): Streams {
    const output = new PassThrough()
    const attached: FakeContainer['attached'][number] = { output, closed: false }
    c.attached.push(attached)
    const input = new PassThrough()
    void c.started.then(() => {
      input.on('data', (chunk: Buffer) => this.print(c, StreamNumber.stdout, chunk))
      input.on('end', () => c.exit(0))
    })
    return {
      tty: c.request.config.Tty === true, output, ...(stdin && { input }),
      close(detached) {
        attached.closed = true
        attached.detached = detached === true
        output.end()
      },
    }
  }

  #inspect(c: FakeContainer): ContainerInspect {
    const running = c.status === 'running'
    const zero = '0001-01-01T00:00:00Z'
    return {
      Id: c.id, Created: zero, Path: '', Args: [], Image: '', ResolvConfPath: '', HostnamePath: '', HostsPath: '', LogPath: '', Name: '/' + c.name,
      State: {
        Status: c.status, Running: running, Paused: false, Restarting: false, OOMKilled: false, Dead: false, Pid: 0, ExitCode: c.exitCode, Error: '',
        StartedAt: zero, FinishedAt: zero,
      },
      RestartCount: 0, Driver: 'overlayfs', Platform: 'linux', MountLabel: '', ProcessLabel: '', AppArmorProfile: '', ExecIDs: null,
      HostConfig: c.request.hostConfig satisfies HostConfig, GraphDriver: { Name: 'overlayfs', Data: null }, Mounts: [],
      Config: c.request.config satisfies ContainerConfig,
      NetworkSettings: {
        Bridge: '', SandboxID: '', SandboxKey: '', Ports: {}, HairpinMode: false, LinkLocalIPv6Address: '', LinkLocalIPv6PrefixLen: 0,
        SecondaryIPAddresses: null, SecondaryIPv6Addresses: null, EndpointID: '', Gateway: '', GlobalIPv6Address: '', GlobalIPv6PrefixLen: 0,
        IPAddress: '', IPPrefixLen: 0, IPv6Gateway: '', MacAddress: '', Networks: { mine: { Aliases: ['web'] } },
      },
    }
  }
}

/** All bytes of a stream as text. */
export async function textOf(stream: Readable): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of stream as AsyncIterable<Buffer>) chunks.push(chunk)
  return Buffer.concat(chunks).toString('utf8')
}
