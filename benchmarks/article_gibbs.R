# Times the article's own R function, as printed there; prints seconds.
#
#   Rscript article_gibbs.R W.csv 10000

mcmc_function <- function(W, S = 10000, a_sigma_e = 0.1, b_sigma_e = 1,
a_sigma_x = 0.1, b_sigma_x = 1, B = 100) {
# Start with initial conditions
sigma2_e <- mean(apply(W,1,var))
sigma2_x <- var(apply(W,1,mean))
X <- apply(W,1,mean)
# Preallocate storage for draws from the posterior distribution
mcmc_results <- list(
X = matrix(NA,n,S),
sigma2_e = numeric(S),
sigma2_x = numeric(S)
)
# Run the MCMC for 10k iterations
start_time <- proc.time()[3]
for(s in seq(S)) {
X <- rnorm(n, (1 / (1/sigma2_e + 2/sigma2_x)) * apply(W,1,sum)/sigma2_e,
sd = sqrt((1 / (1/sigma2_e + 2/sigma2_x))))
sigma2_x <- 1/rgamma(1,n/2 + a_sigma_x, b_sigma_x + sum(X^2)/2)
sigma2_e <- 1/rgamma(1,n + a_sigma_e, b_sigma_e + sum(apply(W,2,`-`,y =X)^2)/2)
mcmc_results$X[,s] <- X
mcmc_results$sigma2_e[s] <- sigma2_e
mcmc_results$sigma2_x[s] <- sigma2_x
}
total_time <- proc.time()[3] - start_time
cat("Total MCMC run time:",S,"draws in",total_time,"seconds \n")
# Remove burn-in
mcmc_results$X <- mcmc_results$X[,-seq(B)]
mcmc_results$sigma2_e <- mcmc_results$sigma2_e[-seq(B)]
mcmc_results$sigma2_x <- mcmc_results$sigma2_x[-seq(B)]
return(mcmc_results)
}

arguments <- commandArgs(trailingOnly = TRUE)
W <- unname(as.matrix(read.csv(arguments[1])))
# The article's function reads n from outside.
n <- nrow(W)
set.seed(47403)
seconds <- system.time(mcmc_results <- mcmc_function(W, as.integer(arguments[2])))[["elapsed"]]
cat("seconds", seconds, "\n")
