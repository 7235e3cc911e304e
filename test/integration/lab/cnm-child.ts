/** Opens networks, makes and removes as fast as it can, and is killed in the midst. Arguments: options as JSON, a plan's name. */
import { openCnm } from '../../../src/network/cnm/index.ts'

const [json = '{}', plan = ''] = process.argv.slice(2)
const cnm = await openCnm(JSON.parse(json))
const sandbox = (id: string, network: string): Promise<unknown> => cnm.createSandbox({
  id, name: id, hostname: id, endpoints: [{ network, spec: {} }], ports: [{ containerPort: 80, protocol: 'tcp', hostIP: '127.0.0.1', hostPort: '' }],
})
if (plan === 'keep') {
  await cnm.createNetwork({ name: 'kept' })
  await cnm.createSandbox({
    id: 'lives', name: 'lives', hostname: 'h', endpoints: [{ network: 'kept', spec: { aliases: ['alias'] } }],
    ports: [{ containerPort: 8080, protocol: 'tcp', hostIP: '', hostPort: '18077' }],
  })
  await sandbox('other', 'kept')
}
process.stdout.write('ready\n')
for (let round = 0; ; round++) {
  const name = `churn${process.pid}-${round}`
  await cnm.createNetwork({ name })
  await sandbox(`s${process.pid}-${round}`, name)
  await cnm.connect(`s${process.pid}-${round}`, 'bridge', {})
  await cnm.disconnect(`s${process.pid}-${round}`, name, false)
  await cnm.deleteSandbox(`s${process.pid}-${round}`)
  await cnm.removeNetwork(name)
}
