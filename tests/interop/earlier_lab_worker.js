'use strict'
// Worker of the earlier lab, with a separator behind the client: node earlier_lab_worker.js ID HOST PORT [WORK_MS [SLOW_AT SLOW_MS]]
// Its SLOW_AT-th task (1 is the first) takes SLOW_MS.
const zmq = require('zeromq/v5-compat')

const [id, host, port, workMs = 1000, slowAt = 0, slowMs = 0] = process.argv.slice(2)
const req = zmq.socket('req')
let tasks = 0

function answer(client, separator, message) {
  req.send([client, separator, `${message} ${id}`])
  console.log(`answer ${client} ${message}`)
}

req.on('message', (client, separator, message) => {
  tasks += 1
  console.log(`task ${client} ${message}`)
  if (separator.length) throw new Error(`a separator that is not empty: ${separator}`)
  setTimeout(answer, Number(tasks === Number(slowAt) ? slowMs : workMs), client, separator, message)
})

req.identity = id
req.connect(`tcp://${host}:${port}`)
req.send(['', '', ''])
console.log('ready')
