/** `docker attach`: a client at a container's terminal or streams; legal before the start. */
import { Readable, Writable } from 'node:stream'
import type { AttachOptions, Streams } from '../../backend.ts'
import { DockerError } from '../../errors.ts'
import type { Attachment, Container } from './container.ts'
import { dockerError, emit } from './context.ts'
import type { Context } from './context.ts'
import { logBytes } from './logs.ts'
import { consumed, mergedOutput } from './streams.ts'

export async function attach(x: Context, c: Container, ref: string, options: AttachOptions): Promise<Streams> {
  if (c.paused) throw new DockerError('conflict', `container ${ref} is paused, unpause the container before attach`)
  if (c.restarting) throw new DockerError('conflict', `container ${ref} is restarting, wait until the container is running`)
  const tty = c.record.config.Tty === true
  const past = options.logs
    ? logBytes(x, c, { follow: false, stdout: options.stdout, stderr: options.stderr, timestamps: false, details: false }, true) : undefined
  if (!options.stream) {
    emit(x, c, 'attach')
    return { tty, output: Readable.from(past ?? []), close: () => undefined }
  }
  const process = await x.engine.containers.attach(c.id).catch((e: unknown) => { throw dockerError(e) })
  // What nobody wants is read all the same: a full pipe would stop the container.
  if (!options.stdout) process.stdout.resume()
  if (!options.stderr) process.stderr?.resume()
  const idle = options.stdout || options.stderr ? undefined : consumed(process.stdout)
  const output = mergedOutput({
    raw: tty, ...(options.stdout ? { stdout: process.stdout } : {}), ...(options.stderr && process.stderr !== undefined ? { stderr: process.stderr } : {}),
  }, { ...(past === undefined ? {} : { prefix: past }), ...(idle === undefined ? {} : { last: idle }) })
  const attachment: Attachment = {
    drained: consumed(output),
    end: () => {
      process.close()
      output.push(null)
    },
  }
  c.attachments.add(attachment)
  void attachment.drained.then(() => { c.attachments.delete(attachment) })
  emit(x, c, 'attach')
  const input = options.stdin && c.record.config.OpenStdin === true ? stdinOf(c, process.stdin as Writable | undefined) : undefined
  return {
    tty, output, ...(input === undefined ? {} : { input }),
    close: (detached) => {
      c.attachments.delete(attachment)
      process.close()
      output.destroy()
      if (detached === true) emit(x, c, 'detach')
    },
  }
}

/** The end of a client's input is the process's only with StdinOnce and without a tty: else another client may follow. */
function stdinOf(c: Container, stdin: Writable | undefined): Writable | undefined {
  if (stdin === undefined) return undefined
  // A process that ended, or closed its stdin, is no reason to fail.
  stdin.on('error', () => undefined)
  if (c.record.config.StdinOnce === true && c.record.config.Tty !== true) return stdin
  return new Writable({
    write(chunk: Buffer, _encoding, done) {
      if (stdin.destroyed || stdin.writableEnded) { done(); return }
      stdin.write(chunk, () => { done() })
    },
    final(done) { done() },
  })
}
