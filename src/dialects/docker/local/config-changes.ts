/** `--change` of commit and import: lines of a Dockerfile that touch an image's configuration alone. */
import { parseInstruction } from '../../../engine/build/dockerfile.ts'
import { applyConfig } from '../../../engine/build/instructions.ts'
import type { RuntimeConfig } from '../../../engine/images/media-types.ts'
import { DockerError } from '../errors.ts'
import type { ContainerConfig } from '../model.ts'

const ALLOWED = ['CMD', 'ENTRYPOINT', 'ENV', 'EXPOSE', 'HEALTHCHECK', 'LABEL', 'ONBUILD', 'STOPSIGNAL', 'USER', 'VOLUME', 'WORKDIR']

/** A new configuration. Throws `invalid`. */
export function applyChanges(config: ContainerConfig, changes: string[]): ContainerConfig {
  const own = structuredClone(config) as RuntimeConfig
  const frame = {
    config: own, escape: '\\', cmdSet: false,
    lookup: (name: string) => own.Env?.find((e) => e.startsWith(`${name}=`))?.slice(name.length + 1),
  }
  for (const line of changes.flatMap((c) => c.split('\n'))) {
    if (line.trim() === '') continue
    try {
      const instruction = parseInstruction(line.trim(), 1)
      if (!ALLOWED.includes(instruction.name)) throw new Error(`${instruction.name.toLowerCase()} is not a valid change command`)
      // The command of the container stays when only its entrypoint is changed.
      if (instruction.name === 'ENTRYPOINT') frame.cmdSet = true
      applyConfig(frame, instruction)
    } catch (e) {
      throw new DockerError('invalid', (e as Error).message)
    }
  }
  return own as ContainerConfig
}
