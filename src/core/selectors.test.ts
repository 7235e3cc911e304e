import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isReason } from './errors.ts'
import { events, nodes, pods, secrets } from './kinds.ts'
import { formatLabelSelector, labelSelectorOf, labelsMatch, parseFieldSelector, parseLabelSelector } from './selectors.ts'
import type { ApiObject } from './types/index.ts'

const labels = { app: 'web', tier: 'front', empty: '' }

test('label selector text', () => {
  const cases: [string, boolean][] = [
    ['', true], ['app=web', true], ['app==web', true], ['app = web', true], ['app!=web', false], ['other!=x', true],
    ['app in (web,db)', true], ['app in (db)', false], ['app notin (db, x)', true], ['missing notin (x)', true],
      ['missing in (x)', false],
    ['app', true], ['!app', false], ['!missing', true], ['missing', false], ['app=web,tier=front', true],
      ['app=web,tier=back', false],
    ['empty=', true], ['empty in ()', true], ['example.com/role=x', false], ['constructor', false], ['!constructor', true],
    ['app in (web),!missing,tier notin (a,b)', true], ['in=x', false], ['in in (in)', false],
  ]
  for (const [text, expected] of cases) assert.equal(parseLabelSelector(text)(labels), expected, text)
  assert.equal(parseLabelSelector('a')(undefined), false)
  assert.equal(parseLabelSelector('!a')(undefined), true)
})

test('bad label selectors are BadRequest, whatever the garbage', () => {
  const bad = ['app in (a', 'app in a)', 'app=web tier', ',', 'a,', '=x', '!', 'a=b=c', 'a in', 'a in (b c)', 'a!x', '-a=b',
    'a=-b-', '((', 'a=\u0000', 'a&b', 'x'.repeat(64), 'a==,=']
  for (const text of bad) assert.throws(() => parseLabelSelector(text), e => isReason(e, 'BadRequest'), text)
  for (let i = 0; i < 2000; i++) {
    const text = Array.from({ length: i % 12 }, (_, j) => 'ab =!(),in.'[(i * 31 + j * 17 + (i >> j)) % 11]).join('')
    try {
      parseLabelSelector(text)(labels)
    } catch (e) {
      assert.ok(isReason(e, 'BadRequest'), text)
    }
  }
})

test('label selector objects', () => {
  assert.equal(labelSelectorOf(undefined)(labels), false)
  assert.equal(labelSelectorOf({})(labels), true)
  assert.equal(labelSelectorOf({ matchLabels: { app: 'web' },
    matchExpressions: [{ key: 'tier', operator: 'In', values: ['front'] }] })(labels), true)
  assert.equal(labelSelectorOf({ matchExpressions: [{ key: 'tier', operator: 'DoesNotExist' }] })(labels), false)
  assert.equal(formatLabelSelector({ matchLabels: { b: '2', a: '1' },
    matchExpressions: [{ key: 'c', operator: 'NotIn', values: ['y', 'x'] }] }), 'a=1,b=2,c notin (x,y)')
  assert.equal(labelsMatch({}, labels), false)
  assert.equal(labelsMatch({ app: 'web' }, labels), true)
  assert.equal(labelsMatch({ app: 'web', x: 'y' }, labels), false)
})

test('field selectors', () => {
  const pod = {
    apiVersion: 'v1', kind: 'Pod', metadata: { name: 'p', namespace: 'n' }, spec: { nodeName: 'n1' },
      status: { phase: 'Running', podIPs: [{ ip: '10.0.0.1' }] },
  } as ApiObject
  assert.equal(parseFieldSelector(pods, 'spec.nodeName=n1,status.phase!=Failed')(pod), true)
  assert.equal(parseFieldSelector(pods, 'spec.nodeName==n2')(pod), false)
  assert.equal(parseFieldSelector(pods, 'metadata.name=p,metadata.namespace=n')(pod), true)
  assert.equal(parseFieldSelector(pods, 'spec.nodeName=')(pod), false)
  assert.equal(parseFieldSelector(pods, '')(pod), true)
  assert.equal(parseFieldSelector(pods, 'spec.hostNetwork=false')(pod), true)
  assert.equal(parseFieldSelector(nodes, 'spec.unschedulable=false')({ apiVersion: 'v1', kind: 'Node', metadata: { name: 'x' } }),
    true)
  assert.equal(parseFieldSelector(secrets, 'type=a\\,b')({ type: 'a,b', metadata: { name: 's' } } as unknown as ApiObject), true)
  assert.equal(parseFieldSelector(events, 'involvedObject.name=p,source=kubelet')(
    { involvedObject: { name: 'p' }, source: { component: 'kubelet' }, metadata: { name: 'e' } } as unknown as ApiObject), true)
  assert.throws(() => parseFieldSelector(pods, 'spec.foo=1'),
    { reason: 'BadRequest', message: 'field label not supported: spec.foo' })
  assert.throws(() => parseFieldSelector(pods, 'toString=1'), { message: 'field label not supported: toString' })
  assert.throws(() => parseFieldSelector(pods, 'spec.nodeName'), { reason: 'BadRequest' })
})
