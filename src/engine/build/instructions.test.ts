import { test } from 'node:test'
import assert from 'node:assert/strict'
import type { RuntimeConfig } from '../images/media-types.ts'
import { parseDockerfile } from './dockerfile.ts'
import { applyConfig, parseDuration } from './instructions.ts'
import type { Frame } from './instructions.ts'

function apply(text: string, config: RuntimeConfig = {}): { config: RuntimeConfig; texts: string[] } {
  const frame: Frame = { config, lookup: n => ({ V: 'v', PORTS: '80 443/udp' })[n], escape: '\\', cmdSet: false }
  const texts = parseDockerfile(`FROM scratch\n${text}`).stages[0]!.instructions.map(i => applyConfig(frame, i))
  return { config: frame.config, texts }
}

test('ENV and LABEL in both forms', () => {
  assert.deepEqual(apply('ENV A=$V B="x y" C=\'$V\'\nENV D some words  here\nENV A=again').config.Env, ['A=again', 'B=x y', 'C=$V', 'D=some words  here'])
  assert.deepEqual(apply('LABEL a=b "c.d"="e f"', { Labels: { z: '1' } }).config.Labels, { z: '1', a: 'b', 'c.d': 'e f' })
  assert.throws(() => apply('ENV A=1 B'), /can't find = in "B"/)
})

test('EXPOSE, VOLUME, USER, WORKDIR, STOPSIGNAL', () => {
  assert.deepEqual(Object.keys(apply('EXPOSE $PORTS 8000-8002').config.ExposedPorts!), ['443/udp', '80/tcp', '8000/tcp', '8001/tcp', '8002/tcp'])
  assert.throws(() => apply('EXPOSE 70000'), /invalid containerPort: 70000/)
  assert.deepEqual(Object.keys(apply('VOLUME ["/a", "/$V"]\nVOLUME /b /c').config.Volumes!), ['/a', '/v', '/b', '/c'])
  assert.equal(apply('WORKDIR /a\nWORKDIR b/$V\nWORKDIR ../c').config.WorkingDir, '/a/b/c')
  assert.equal(apply('USER $V:0').config.User, 'v:0')
  assert.throws(() => apply('STOPSIGNAL no/such'), /Invalid signal/)
})

test('ENTRYPOINT drops the command of the base, not one of its own stage', () => {
  const base = { Cmd: ['base'] }
  assert.equal(apply('ENTRYPOINT ["e"]', { ...base }).config.Cmd, undefined)
  assert.deepEqual(apply('CMD ["c"]\nENTRYPOINT ["e"]', { ...base }).config.Cmd, ['c'])
  assert.deepEqual(apply('SHELL ["/bin/bash", "-ec"]\nCMD a b').config.Cmd, ['/bin/bash', '-ec', 'a b'])
})

test('HEALTHCHECK and ONBUILD', () => {
  assert.deepEqual(apply('HEALTHCHECK --interval=1m30s --timeout=2s --retries=4 CMD curl x').config.Healthcheck,
    { Test: ['CMD-SHELL', 'curl x'], Interval: 90e9, Timeout: 2e9, Retries: 4 })
  assert.deepEqual(apply('HEALTHCHECK NONE').config.Healthcheck, { Test: ['NONE'] })
  assert.throws(() => apply('HEALTHCHECK --interval=x CMD y'), /must be a duration/)
  assert.deepEqual(apply('ONBUILD RUN a\nONBUILD COPY . /x').config.OnBuild, ['RUN a', 'COPY . /x'])
  assert.throws(() => apply('ONBUILD FROM x'), /isn't allowed as an ONBUILD trigger/)
  assert.equal(parseDuration('1h'), 3600e9)
  assert.equal(parseDuration('1'), undefined)
})
