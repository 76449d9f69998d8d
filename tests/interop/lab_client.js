'use strict'
// Client of the lab: node lab_client.js ID N HOST PORT
// Sends ID-1 .. ID-N, each after the answer to the one before, and stops after the last answer.
const zmq = require('zeromq/v5-compat')

const [id, n, host, port] = process.argv.slice(2)
const req = zmq.socket('req')
let sent = 0

function ask() {
  sent += 1
  console.log(`ask ${id}-${sent}`)
  req.send(`${id}-${sent}`)
}

req.on('message', (reply) => {
  console.log(`reply ${reply}`)
  if (sent < Number(n)) ask()
  else process.exit(0)
})

req.identity = id
req.connect(`tcp://${host}:${port}`)
ask()
