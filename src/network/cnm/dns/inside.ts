/**
 * DNS sockets within a container's namespace, for networks that have no address on this machine (macvlan, gateways elsewhere, IPv6
 * alone). A short-lived process enters the namespace, opens them there and hands them over; the sockets go on belonging to that namespace.
 */
import { fork } from 'node:child_process'
import type { Socket } from 'node:dgram'
import type { Server } from 'node:net'
import { fileURLToPath } from 'node:url'
import { CnmError } from '../cnm.ts'

const timeoutMs = 15_000

export interface InsideSockets { udp: Socket; tcp: Server; udpPort: number; tcpPort: number }

export async function openInside(netnsPath: string, address: string): Promise<InsideSockets> {
  const opener = fileURLToPath(new URL('inside-opener.ts', import.meta.url))
  const child = fork(opener, [address], {
    execPath: 'nsenter', execArgv: [`--net=${netnsPath}`, process.execPath, '--disable-warning=ExperimentalWarning'], stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
  })
  const { promise, resolve, reject } = Promise.withResolvers<InsideSockets>()
  const timer = setTimeout(() => child.kill('SIGKILL'), timeoutMs)
  const got: Partial<InsideSockets> = {}
  let words = ''
  child.stderr?.on('data', (chunk: Buffer) => { words += chunk.toString() })
  child.on('message', (_, handle) => {
    if (handle === undefined) return
    if ('listen' in handle) {
      got.tcp = handle as Server
      got.tcpPort = (got.tcp.address() as { port: number }).port
    } else {
      got.udp = handle as Socket
      got.udpPort = got.udp.address().port
    }
    if (got.tcp !== undefined && got.udp !== undefined) {
      resolve(got as InsideSockets)
      if (child.connected) child.disconnect()
    }
  })
  child.on('error', (error) => reject(new CnmError('failed', `cannot open DNS sockets in ${netnsPath}: ${error.message}`)))
  child.on('close', () => reject(new CnmError('failed', `cannot open DNS sockets in ${netnsPath}: ${words.trim().slice(0, 500)}`)))
  try {
    return await promise
  } finally {
    clearTimeout(timer)
  }
}
