/** Devices of the machine in a container: their nodes, and what its device cgroup lets through. */
import { lstatSync, readdirSync, statSync } from 'node:fs'
import type { Stats } from 'node:fs'
import { EngineError } from '../engine.ts'
import type { Device } from '../engine.ts'

export interface OciDevice { path: string; type: string; major: number; minor: number; fileMode: number; uid: number; gid: number }
export interface DeviceRule { allow: boolean; type?: string; major?: number; minor?: number; access: string }

/** mknod of anything, use of null, zero, full, tty, random, urandom, the ptys and /dev/console. */
export const DEFAULT_RULES: DeviceRule[] = [
  { allow: false, access: 'rwm' },
  { allow: true, type: 'c', access: 'm' },
  { allow: true, type: 'b', access: 'm' },
  ...[[1, 3], [1, 5], [1, 7], [1, 8], [1, 9], [5, 0], [5, 1], [5, 2]].map(
    ([major, minor]) => ({ allow: true, type: 'c', major, minor, access: 'rwm' }) as DeviceRule),
  { allow: true, type: 'c', major: 136, access: 'rwm' },
]

/** What a container's /dev makes for itself. */
const OWN = new Set(['/dev/pts', '/dev/shm', '/dev/mqueue', '/dev/fd', '/dev/console'])

/** The kernel's split of a device number. */
export function deviceNumbers(rdev: number): { major: number; minor: number } {
  return { major: rdev >>> 8 & 0xfff, minor: rdev & 0xff | rdev >>> 12 & 0xfff00 }
}

/** Major and minor of a block device, for limits of its traffic. Throws `invalid`. */
export function blockDevice(path: string): { major: number; minor: number } {
  const stats = statSync(path, { throwIfNoEntry: false })
  if (stats === undefined) throw new EngineError('invalid', `no such device: ${path}`)
  return deviceNumbers(stats.rdev)
}

/** All devices of the machine, for privileged containers. */
export function allDevices(): OciDevice[] {
  const out: OciDevice[] = []
  visit('/dev', '/dev', out)
  return out
}

/** The nodes and rules of devices asked for; a directory stands for all devices in it. Throws `invalid` for what is none. */
export function wantedDevices(list: Device[]): { devices: OciDevice[]; rules: DeviceRule[] } {
  const devices: OciDevice[] = []
  const rules: DeviceRule[] = []
  for (const d of list) {
    const stats = statSync(d.hostPath, { throwIfNoEntry: false })
    if (!/^[rwm]{1,3}$/.test(d.permissions)) throw new EngineError('invalid', `invalid device mode: ${d.permissions}`)
    const why = stats === undefined ? 'no such file or directory' : stats.isDirectory() || isDevice(stats) ? '' : 'not a device node'
    if (stats === undefined || why !== '') {
      throw new EngineError('invalid', `error gathering device information while adding custom device "${d.hostPath}": ${why}`)
    }
    const found: OciDevice[] = []
    if (stats.isDirectory()) visit(d.hostPath, d.containerPath, found)
    else found.push(ociDevice(d.containerPath, stats))
    for (const f of found) {
      devices.push(f)
      rules.push({ allow: true, type: f.type, major: f.major, minor: f.minor, access: d.permissions })
    }
  }
  return { devices, rules }
}

/** `TYPE MAJOR:MINOR ACCESS`, with `*` for all. Throws `invalid`. */
export function parseRule(text: string): DeviceRule {
  const m = /^([acb]) (\d+|\*):(\d+|\*) ([rwm]{1,3})$/.exec(text)
  if (m === null) throw new EngineError('invalid', `invalid device cgroup rule format: '${text}'`)
  const [, type, major, minor, access] = m as unknown as [string, string, string, string, string]
  return {
    allow: true, type, access, ...(major === '*' ? {} : { major: Number(major) }), ...(minor === '*' ? {} : { minor: Number(minor) }),
  }
}

function visit(from: string, to: string, out: OciDevice[]): void {
  for (const name of readdirSync(from)) {
    const path = `${from}/${name}`
    if (OWN.has(path)) continue
    const stats = lstatSync(path, { throwIfNoEntry: false })
    if (stats === undefined) continue
    if (stats.isDirectory()) visit(path, `${to}/${name}`, out)
    else if (isDevice(stats)) out.push(ociDevice(`${to}/${name}`, stats))
  }
}

const isDevice = (s: Stats): boolean => s.isCharacterDevice() || s.isBlockDevice()

function ociDevice(path: string, s: Stats): OciDevice {
  return { path, type: s.isBlockDevice() ? 'b' : 'c', ...deviceNumbers(s.rdev), fileMode: s.mode & 0o777, uid: s.uid, gid: s.gid }
}
