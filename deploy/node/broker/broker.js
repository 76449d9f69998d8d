'use strict'
// The lab's broker: node broker FRONTEND_PORT BACKEND_PORT [LOGGER_HOST LOGGER_PORT]
const zmq = require('zeromq')

const [frontendPort, backendPort, loggerHost, loggerPort] = process.argv.slice(2)
const ANSWER_TIME_MS = 2000

const frontend = zmq.socket('router')
const backend = zmq.socket('router')
const logger = loggerHost ? zmq.socket('push') : undefined

const pending = [] // [client, message], oldest first
const ready = [] // workers, the one that has waited longest first
const working = new Map() // worker: [client, message, timer]
const failed = new Set() // workers whose next answer comes too late

function trace(text) {
  console.log(text)
  if (logger) logger.send(text)
}

function handOut() {
  while (pending.length && ready.length) {
    const worker = ready.shift()
    const [client, message] = pending.shift()
    working.set(worker, [client, message, setTimeout(fail, ANSWER_TIME_MS, worker)])
    trace(`${client} asks ${message}: it goes to ${worker}`)
    backend.send([worker, '', client, message])
  }
}

function fail(worker) {
  const [client, message] = working.get(worker)
  trace(`${worker} has failed`)
  working.delete(worker)
  failed.add(worker)
  pending.unshift([client, message])
  handOut()
}

frontend.on('message', (client, empty, message) => {
  pending.push([client.toString(), message.toString()])
  handOut()
})

backend.on('message', (id, empty, client, answer) => {
  const worker = id.toString()
  if (client.length && !failed.has(worker)) {
    trace(`${worker} answers ${client}: ${answer}`)
    frontend.send([client, '', answer])
  }
  if (working.has(worker)) clearTimeout(working.get(worker)[2])
  working.delete(worker)
  failed.delete(worker)
  ready.push(worker)
  handOut()
})

frontend.on('error', trace) // an answer for a client that is gone
backend.on('error', trace)
if (logger) logger.connect(`tcp://${loggerHost}:${loggerPort}`)
frontend.bindSync(`tcp://*:${frontendPort}`)
backend.bindSync(`tcp://*:${backendPort}`)
trace(`broker: clients on port ${frontendPort}, workers on port ${backendPort}`)
