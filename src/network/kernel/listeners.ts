/** Whether a program of this machine itself listens where a port is to be published. */
import { createSocket } from 'node:dgram'
import { createServer } from 'node:net'
import type { PortMapping } from '../network.ts'
import { NetworkError } from '../network.ts'

/** NetworkError `conflict` if the address is taken, `invalid` if it is not this machine's. */
export async function checkNoListener({ protocol, hostPort, hostIP = '0.0.0.0' }: PortMapping): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  const refuse = (error: NodeJS.ErrnoException): void => {
    if (error.code === 'EADDRINUSE') reject(new NetworkError('conflict', `host port ${hostPort}/${protocol} is used by a program of this machine`))
    else if (error.code === 'EADDRNOTAVAIL') reject(new NetworkError('invalid', `${hostIP} is not an address of this machine`))
    else reject(new NetworkError('failed', `host port ${hostPort}/${protocol}: ${error.message}`))
  }
  if (protocol === 'tcp') {
    const server = createServer()
    server.once('error', refuse)
    server.listen({ host: hostIP, port: hostPort, exclusive: true }, () => server.close(() => resolve()))
  } else {
    const socket = createSocket('udp4')
    socket.once('error', (error) => {
      socket.close()
      refuse(error)
    })
    socket.bind({ address: hostIP, port: hostPort, exclusive: true }, () => socket.close(() => resolve()))
  }
  await promise
}
