import assert from 'node:assert/strict'
import { test } from 'node:test'
import { lookupUser } from './users.ts'

const files = {
  passwd: 'root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n77:x:2077:2077::/seven:/bin/sh\nbroken\n#c:x:1:1::/:\n',
  group: 'root:x:0:\napp:x:1001:\nwheel:x:10:root,app\ndisk:x:6:app\n',
}

test('names, numbers and groups', () => {
  assert.deepEqual(lookupUser('', files), { uid: 0, gid: 0, additionalGids: [10, 0], home: '/root' })
  assert.deepEqual(lookupUser('app', files), { uid: 1000, gid: 1001, additionalGids: [10, 6, 1001], home: '/home/app' })
  assert.deepEqual(lookupUser('1000', files), lookupUser('app', files))
  assert.deepEqual(lookupUser('4242', files), { uid: 4242, gid: 0, additionalGids: [0], home: '/' })
  assert.deepEqual(lookupUser('app:disk', files), { uid: 1000, gid: 6, additionalGids: [6], home: '/home/app' })
  assert.deepEqual(lookupUser('5:6', files, [9]), { uid: 5, gid: 6, additionalGids: [9, 6], home: '/' })
  assert.equal(lookupUser('77', files).uid, 2077)
})

test('what cannot be found is named', () => {
  assert.throws(() => lookupUser('ghost', files), /unable to find user ghost: no matching entries in passwd file/)
  assert.throws(() => lookupUser('app:ghosts', files), /unable to find group ghosts/)
  assert.throws(() => lookupUser('4294967296', files), /unable to find user/)
  assert.equal(lookupUser('0', { passwd: undefined, group: undefined }).home, '/')
})
