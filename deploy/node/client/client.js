'use strict'
// The lab's client: node client ID N BROKER_HOST BROKER_PORT. ID HN stands for the name of this machine.
const os = require('os')
const zmq = require('zeromq')

const [name, count, host, port] = process.argv.slice(2)
const id = name === 'HN' ? `CLI_${os.hostname()}` : name
const broker = zmq.socket('req')
let number = 0

function ask() {
  number += 1
  broker.send(`${id}-${number}`)
}

broker.on('message', (answer) => {
  console.log(`${id}-${number} -> ${answer}`)
  if (number < Number(count)) ask()
  else process.exit(0)
})

broker.identity = id
broker.connect(`tcp://${host}:${port}`)
ask()
