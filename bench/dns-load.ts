/** Asks 127.0.0.11 for one name over UDP, 64 questions in flight, and prints answers a second: `dns-load.ts NAME MILLISECONDS`. */
import { createSocket } from 'node:dgram'

const [name = '', ms = '2000'] = process.argv.slice(2)
const IN_FLIGHT = 64

const question = Buffer.concat([
  Buffer.from([0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]), ...name.split('.').flatMap(l => [Buffer.from([l.length]), Buffer.from(l)]), Buffer.from([0, 0, 1, 0, 1]),
])
const socket = createSocket('udp4')
let [answers, wrong] = [0, 0]
let id = 0
const ask = (): void => {
  const q = Buffer.from(question)
  q.writeUInt16BE(id = (id + 1) & 0xffff, 0)
  socket.send(q)
}
socket.on('message', m => {
  // One answer and no error.
  if ((m[3]! & 15) === 0 && m.readUInt16BE(6) === 1) answers++
  else wrong++
  ask()
})
socket.connect(53, '127.0.0.11', () => {
  for (let i = 0; i < IN_FLIGHT; i++) ask()
  // What is lost would narrow the window for good.
  const again = setInterval(() => ask(), 100)
  setTimeout(() => {
    clearInterval(again)
    socket.close()
    if (wrong > 0) {
      process.stderr.write(`${wrong} wrong answers\n`)
      process.exit(1)
    }
    process.stdout.write(String(Math.round(answers / Number(ms) * 1000)))
  }, Number(ms))
})
