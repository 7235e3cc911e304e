/** What a container takes from its image where its own configuration says nothing. */
import type { ContainerConfig, HealthConfig } from '../model.ts'

/** A new configuration; neither argument is changed. */
export function mergeImageConfig(user: ContainerConfig, image: ContainerConfig): ContainerConfig {
  const out: ContainerConfig = { ...user }
  out.User ||= image.User ?? ''
  out.WorkingDir ||= image.WorkingDir ?? ''
  out.StopSignal ||= image.StopSignal
  if (out.StopSignal === undefined || out.StopSignal === '') delete out.StopSignal
  out.Env = mergeEnv(user.Env ?? [], image.Env ?? [])
  out.Labels = { ...image.Labels, ...user.Labels }
  out.ExposedPorts = union(user.ExposedPorts, image.ExposedPorts)
  out.Volumes = union(user.Volumes, image.Volumes)
  out.Shell ??= image.Shell
  if ((user.Entrypoint?.length ?? 0) === 0) {
    if ((user.Cmd?.length ?? 0) === 0) out.Cmd = image.Cmd ?? null
    // An empty list, unlike none, takes the image's entrypoint away.
    if (user.Entrypoint == null) out.Entrypoint = image.Entrypoint ?? null
  }
  if (out.Entrypoint?.length === 1 && out.Entrypoint[0] === '') out.Entrypoint = null
  out.Cmd ??= null
  out.Healthcheck = mergeHealth(user.Healthcheck, image.Healthcheck)
  if (out.Healthcheck == null) delete out.Healthcheck
  if (out.Shell == null) delete out.Shell
  return out
}

/** The user's first, then what only the image has. */
function mergeEnv(user: string[], image: string[]): string[] {
  const known = new Set(user.map((e) => e.split('=', 1)[0]))
  return [...user, ...image.filter((e) => !known.has(e.split('=', 1)[0]))]
}

function union<T>(a: Record<string, T> | null | undefined, b: Record<string, T> | null | undefined): Record<string, T> | undefined {
  return a == null && b == null ? undefined : { ...b, ...a }
}

function mergeHealth(user: HealthConfig | null | undefined, image: HealthConfig | null | undefined): HealthConfig | null | undefined {
  if (user == null || image == null) return user ?? image
  return {
    Test: (user.Test?.length ?? 0) === 0 ? image.Test : user.Test,
    Interval: user.Interval || image.Interval, Timeout: user.Timeout || image.Timeout, StartPeriod: user.StartPeriod || image.StartPeriod,
    StartInterval: user.StartInterval || image.StartInterval, Retries: user.Retries || image.Retries,
  }
}

/** Program and arguments. */
export function commandLine(config: ContainerConfig): { path: string; args: string[] } {
  const [path = '', ...args] = [...config.Entrypoint ?? [], ...config.Cmd ?? []]
  return { path, args }
}
