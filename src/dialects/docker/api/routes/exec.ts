/** More processes in a running container. */
import { DockerError } from '../../errors.ts'
import type { Streams } from '../../backend.ts'
import { frame, StreamNumber } from '../../frames.ts'
import type { ExecConfig } from '../../model.ts'
import type { Call, Handler } from '../call.ts'
import { parseDetachKeys } from '../detach-keys.ts'
import { asDockerError } from '../errors-out.ts'
import { carry, closeSoon, hijack, streamType } from '../hijack.ts'
import type { Route } from '../router.ts'
import { execShape, execStartShape } from '../shapes.ts'
import { liftExec } from '../versions.ts'
import { sizeOf } from './containers.ts'

export const execRoutes: readonly Route<Handler>[] = [
  { method: 'POST', path: '/containers/{name}/exec', handler: create },
  { method: 'POST', path: '/exec/{name}/start', handler: start },
  { method: 'POST', path: '/exec/{name}/resize', handler: resize },
  { method: 'GET', path: '/exec/{name}/json', handler: async c => c.sendJson(200, await c.backend.execs.inspect(c.name)) },
]

async function create(c: Call): Promise<void> {
  const config = await c.json<ExecConfig>(execShape)
  liftExec(c.version, config)
  if ((config.Cmd ?? []).length === 0) throw new DockerError('invalid', 'No exec command specified')
  if (config.DetachKeys) parseDetachKeys(config.DetachKeys)
  c.sendJson(201, await c.backend.execs.create(c.name, config))
}

async function start(c: Call): Promise<void> {
  const body = await c.json<{ Detach?: boolean; Tty?: boolean; ConsoleSize?: [number, number] }>(execStartShape)
  liftExec(c.version, body)
  // Whether the wire is raw is the start's word, whatever the process has: clients that leave it out read frames.
  const raw = body.Tty === true
  const options = {
    raw, ...(body.ConsoleSize?.length === 2 && { consoleSize: body.ConsoleSize }),
  }
  if (body.Detach === true) {
    await c.backend.execs.start(c.name, { detach: true, ...options })
    return c.sendEmpty(200)
  }
  // Once the connection is taken over there is no status any more: what can be said before is.
  const exec = await c.backend.execs.inspect(c.name)
  if (exec.Running) throw new DockerError('conflict', `exec ${exec.ID} is already running`)
  if (exec.ExitCode !== null) throw new DockerError('conflict', `exec ${exec.ID} has already run`)
  const keys = parseDetachKeys(exec.DetachKeys)
  // The header goes first, while the process starts: its output never comes with the header.
  const socket = await hijack(c, streamType(c, raw))
  let streams: Streams | undefined
  try {
    streams = await c.backend.execs.start(c.name, { detach: false, ...options })
  } catch (e) {
    const text = Buffer.from(asDockerError(e).message + '\r\n')
    socket.write(raw ? text : frame(StreamNumber.stdout, text))
    return closeSoon(socket)
  }
  await carry(socket, streams!, keys)
}

async function resize(c: Call): Promise<void> {
  await c.backend.execs.resize(c.name, sizeOf(c.query))
  c.sendEmpty(200)
}
