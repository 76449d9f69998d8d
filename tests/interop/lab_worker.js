'use strict'
// Worker of this lab: node lab_worker.js ID HOST PORT [WORK_MS [SLOW_AT SLOW_MS]]
// Its SLOW_AT-th task (1 is the first) takes SLOW_MS.
const zmq = require('zeromq/v5-compat')

const [id, host, port, workMs = 1000, slowAt = 0, slowMs = 0] = process.argv.slice(2)
const req = zmq.socket('req')
let tasks = 0

req.on('message', (client, message) => {
  tasks += 1
  console.log(`task ${client} ${message}`)
  setTimeout(() => {
    req.send([client, `${message} ${id}`])
    console.log(`answer ${client} ${message}`)
  }, Number(tasks === Number(slowAt) ? slowMs : workMs))
})

req.identity = id
req.connect(`tcp://${host}:${port}`)
req.send(['', ''])
console.log('ready')
