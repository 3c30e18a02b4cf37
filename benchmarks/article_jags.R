# Times JAGS on the article's model; prints seconds with every X kept, seconds with nothing kept,
# then mean and Monte Carlo error of each variance.
#
#   Rscript article_jags.R W.csv 10000
suppressPackageStartupMessages(library(rjags))

arguments <- commandArgs(trailingOnly = TRUE)
W <- unname(as.matrix(read.csv(arguments[1])))
iterations <- as.integer(arguments[2])

model_code <- "
model {
  for (i in 1:n) {
    X[i] ~ dnorm(0, precision_x)
    for (j in 1:J) {
      W[i, j] ~ dnorm(X[i], precision_e)
    }
  }
  # Inverse-gamma variances, with the article's shape 0.1 and scale 1.
  precision_x ~ dgamma(0.1, 1)
  precision_e ~ dgamma(0.1, 1)
  sigma2_x <- 1 / precision_x
  sigma2_e <- 1 / precision_e
}"

# A fixed seed, so that the means can be had again; JAGS seeds itself from the clock otherwise.
start <- list(.RNG.name = "base::Mersenne-Twister", .RNG.seed = 47403)
model <- jags.model(
  textConnection(model_code),
  data = list(W = W, n = nrow(W), J = ncol(W)),
  inits = start, n.adapt = 1000, quiet = TRUE
)

# Compiling and adapting are left out: sampling alone is what is compared.
seconds <- system.time(
  draws <- coda.samples(
    model, c("sigma2_e", "sigma2_x", "X"), n.iter = iterations, progress.bar = "none"
  )
)[["elapsed"]]

# The same number of iterations again without storing: what the sampler itself costs.
unkept <- system.time(update(model, iterations, progress.bar = "none"))[["elapsed"]]

cat("seconds", seconds, "\n")
cat("unkept", unkept, "\n")
for (name in c("sigma2_e", "sigma2_x")) {
  values <- draws[[1]][, name]
  cat(name, mean(values), sd(values) / sqrt(effectiveSize(values)), "\n")
}
