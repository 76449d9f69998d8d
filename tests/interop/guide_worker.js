'use strict'
// Worker for the guide's load-balancing broker: node guide_worker.js ID HOST PORT [WORK_MS [SLOW_AT SLOW_MS]]
// Bodies may have several frames; the answer has as many, with " ID" behind the last one.
// Its SLOW_AT-th task (1 is the first) takes SLOW_MS. ID "-" sets no identity on the socket.
// It registers with READY, or if the environment has a READY_BYTE, with the byte 01.
const zmq = require('zeromq/v5-compat')

const [id, host, port, workMs = 1000, slowAt = 0, slowMs = 0] = process.argv.slice(2)
const req = zmq.socket('req')
let tasks = 0

req.on('message', (client, separator, ...body) => {
  tasks += 1
  console.log(`task ${client} ${body.join('|')}`)
  const last = body.pop()
  setTimeout(() => {
    req.send([client, separator, ...body, `${last} ${id}`])
    console.log(`answer ${client} ${[...body, last].join('|')}`)
  }, Number(tasks === Number(slowAt) ? slowMs : workMs))
})

if (id !== '-') req.identity = id
req.connect(`tcp://${host}:${port}`)
req.send(process.env.READY_BYTE ? '\x01' : 'READY')
console.log('ready')
