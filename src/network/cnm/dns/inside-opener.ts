/** Runs in a container's network namespace for a moment: opens a UDP and a TCP socket on the address given and hands them to its parent. */
import { createSocket } from 'node:dgram'
import { createServer } from 'node:net'

const [address] = process.argv.slice(2)
const udp = createSocket('udp4')
udp.bind({ address: address!, port: 0, exclusive: true }, () => {
  process.send!('udp', udp)
})
const tcp = createServer()
tcp.listen({ host: address!, port: 0, exclusive: true }, () => {
  process.send!('tcp', tcp)
})
process.on('disconnect', () => process.exit(0))
